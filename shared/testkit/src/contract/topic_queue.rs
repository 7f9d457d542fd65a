//! What every [`Topic`], [`Queue`] and [`QueueConsole`] must do together.

use super::assert_kind;
use sluice_ports::{
    Delivery, ErrorKind, Message, Query, Queue, QueueConsole, Receipt, Settlement, Table, Tally, Topic,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Visibility time-out of every queue of a [`World`].
pub const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long every queue keeps messages.
pub const RETENTION: Duration = Duration::from_secs(4 * 86_400);
/// After how many receives a message of `everything` goes to the dead letters.
pub const MAX_RECEIVE_COUNT: u32 = 2;

/// A topic with two queues behind it, all of them empty.
pub struct World {
    /// The topic.
    pub topic: Arc<dyn Topic>,
    /// Gets all that is published; its dead letters go to `dead_letters` after [`MAX_RECEIVE_COUNT`].
    pub everything: Arc<dyn Queue>,
    /// Gets what has the attribute `area` with `alert` or `audit` among its values; no dead-letter queue.
    pub filtered: Arc<dyn Queue>,
    /// The dead letters of `everything`.
    pub dead_letters: Arc<dyn Queue>,
    /// The console, where there is one; in it the queues are called `Everything`, `Filtered` and `DeadLetters`.
    pub console: Option<Arc<dyn QueueConsole>>,
    /// Whether the console's look counts as a receive, since the service shows no message otherwise.
    pub looks_count: bool,
    /// The table of the tallies, where the adapter adds them.
    pub table: Option<Arc<dyn Table>>,
    /// Whether days can pass too, or time is waited for.
    pub days_can_pass: bool,
    /// Lets this much time pass for the queues.
    pub advance: Box<dyn Fn(Duration) + Send + Sync>,
}

/// Runs every check; the queues are empty again in the end.
pub async fn all(world: &World) {
    empty_batches_do_nothing(world).await;
    a_message_comes_out_as_it_went_in(world).await;
    a_publish_reaches_each_queue_whose_filter_matches(world).await;
    copies_are_settled_apart(world).await;
    a_delivered_message_is_invisible_until_its_timeout(world).await;
    only_the_newest_receipt_settles(world).await;
    a_released_message_waits_as_long_as_asked(world).await;
    a_receive_takes_at_most_its_limit(world).await;
    consumers_side_by_side_get_each_message_once(world).await;
    each_item_of_a_batch_has_its_own_result(world).await;
    a_message_received_too_often_becomes_a_dead_letter(world).await;
    dead_letters_can_be_redriven(world).await;
    looking_is_not_receiving(world).await;
    depth_adds_up(world).await;
    a_message_that_is_too_large_is_refused_alone(world).await;
    a_send_wakes_a_waiting_receiver(world).await;
    a_release_wakes_a_waiting_receiver(world).await;
    an_empty_queue_answers_after_the_wait(world).await;
    tallies_go_with_the_message(world).await;
    old_messages_are_gone(world).await;
    for queue in [&world.everything, &world.filtered, &world.dead_letters] {
        let depth = queue.depth().await.unwrap();
        assert_eq!((depth.visible, depth.in_flight), (0, 0), "a check left messages behind");
    }
}

fn message(body: &str) -> Message {
    Message { body: body.to_owned(), events: 1, ..Message::default() }
}

fn in_area(body: &str, areas: &[&str]) -> Message {
    let areas = areas.iter().map(|&area| area.to_owned()).collect();
    Message { attributes: BTreeMap::from([("area".to_owned(), areas)]), ..message(body) }
}

async fn send(queue: &Arc<dyn Queue>, bodies: &[&str]) {
    for result in queue.send(bodies.iter().map(|body| message(body)).collect()).await {
        result.unwrap();
    }
}

async fn receive(queue: &Arc<dyn Queue>, limit: usize) -> Vec<Delivery> {
    let received = queue.receive(limit, Duration::ZERO).await.unwrap();
    assert!(received.len() <= limit, "a receive takes at most its limit");
    received
}

async fn receive_one(queue: &Arc<dyn Queue>) -> Delivery {
    receive(queue, 1).await.pop().expect("there is a message to receive")
}

async fn delete(queue: &Arc<dyn Queue>, deliveries: &[Delivery]) {
    let outcomes = deliveries.iter().map(|delivery| (delivery.receipt.clone(), Settlement::Delete)).collect();
    for result in queue.settle(outcomes).await {
        result.unwrap();
    }
}

/// Receives and deletes everything visible; answers the bodies, sorted.
async fn drain(queue: &Arc<dyn Queue>) -> Vec<String> {
    let mut bodies = Vec::new();
    loop {
        let received = receive(queue, 10).await;
        if received.is_empty() {
            bodies.sort();
            return bodies;
        }
        delete(queue, &received).await;
        bodies.extend(received.into_iter().map(|delivery| delivery.body));
    }
}

async fn empty_batches_do_nothing(world: &World) {
    assert!(world.topic.publish(vec![]).await.is_empty());
    assert!(world.everything.send(vec![]).await.is_empty());
    assert!(world.everything.settle(vec![]).await.is_empty());
    assert_eq!(receive(&world.everything, 0).await, []);
}

async fn a_message_comes_out_as_it_went_in(world: &World) {
    let body = "{\"a\":\"ä€𝄞\"}\nsecond line\r\n\ttab";
    let attributes =
        BTreeMap::from([("area".to_owned(), vec!["web".to_owned(), "käse".to_owned()]), ("empty".to_owned(), vec![])]);
    let sent = Message { body: body.to_owned(), attributes: attributes.clone(), events: 7, tally: vec![] };
    world.everything.send(vec![sent]).await.pop().unwrap().unwrap();
    let delivery = receive_one(&world.everything).await;
    assert_eq!(delivery.body, body);
    assert_eq!(delivery.attributes, attributes);
    assert_eq!(delivery.receive_count, 1);
    assert!(delivery.events == 7 || delivery.events == 0, "the event count comes through where the adapter knows it");
    assert!(delivery.sent_ms > 0);
    delete(&world.everything, &[delivery]).await;
}

async fn a_publish_reaches_each_queue_whose_filter_matches(world: &World) {
    let messages = vec![
        message("none"),
        in_area("other", &["web"]),
        in_area("one", &["alert"]),
        in_area("both", &["alert", "audit"]),
        in_area("among", &["web", "audit"]),
        in_area("empty", &[]),
    ];
    for result in world.topic.publish(messages).await {
        result.unwrap();
    }
    assert_eq!(drain(&world.everything).await, ["among", "both", "empty", "none", "one", "other"]);
    assert_eq!(drain(&world.filtered).await, ["among", "both", "one"], "each once, by any of its values");
}

async fn copies_are_settled_apart(world: &World) {
    world.topic.publish(vec![in_area("copied", &["alert"])]).await.pop().unwrap().unwrap();
    let delivery = receive_one(&world.everything).await;
    delete(&world.everything, &[delivery]).await;
    assert_eq!(drain(&world.everything).await, [""; 0]);
    assert_eq!(drain(&world.filtered).await, ["copied"], "the other queue still has its copy");
}

async fn a_delivered_message_is_invisible_until_its_timeout(world: &World) {
    send(&world.everything, &["again"]).await;
    let first = receive_one(&world.everything).await;
    assert_eq!(receive(&world.everything, 10).await, [], "nobody else gets it");
    (world.advance)(VISIBILITY_TIMEOUT - Duration::from_secs(1));
    assert_eq!(receive(&world.everything, 10).await, [], "not before the time-out");
    (world.advance)(Duration::from_secs(1));
    let second = receive_one(&world.everything).await;
    assert_eq!((second.id.as_str(), second.body.as_str()), (first.id.as_str(), "again"), "it is the same message");
    assert_eq!(second.sent_ms, first.sent_ms);
    assert_eq!(second.receive_count, 2);
    assert_ne!(second.receipt, first.receipt, "each delivery has its own receipt");
    delete(&world.everything, &[second]).await;
    (world.advance)(VISIBILITY_TIMEOUT);
    assert_eq!(receive(&world.everything, 10).await, [], "what was deleted does not come back");
}

async fn only_the_newest_receipt_settles(world: &World) {
    send(&world.everything, &["newest"]).await;
    let old = receive_one(&world.everything).await;
    (world.advance)(VISIBILITY_TIMEOUT);
    let new = receive_one(&world.everything).await;
    for settlement in [Settlement::Delete, Settlement::Release(Duration::ZERO)] {
        let result = world.everything.settle(vec![(old.receipt.clone(), settlement)]).await.pop().unwrap();
        assert_kind(result, ErrorKind::NotFound, "an old receipt settles nothing");
    }
    assert_eq!(receive(&world.everything, 10).await, [], "and changes nothing");
    delete(&world.everything, std::slice::from_ref(&new)).await;
    let result = world.everything.settle(vec![(new.receipt, Settlement::Delete)]).await.pop().unwrap();
    assert_kind(result, ErrorKind::NotFound, "what is deleted cannot be deleted again");
    for nonsense in ["", "1", "a.b.c", "1.1.1", "0-0#1"] {
        let receipt = Receipt(nonsense.to_owned());
        let result = world.everything.settle(vec![(receipt, Settlement::Delete)]).await.pop().unwrap();
        assert_kind(result, ErrorKind::NotFound, &format!("`{nonsense}` is no receipt"));
    }
}

async fn a_released_message_waits_as_long_as_asked(world: &World) {
    send(&world.everything, &["released"]).await;
    let first = receive_one(&world.everything).await;
    let release = |delivery: &Delivery, after| vec![(delivery.receipt.clone(), Settlement::Release(after))];
    world.everything.settle(release(&first, Duration::from_secs(90))).await.pop().unwrap().unwrap();
    (world.advance)(Duration::from_secs(89));
    assert_eq!(receive(&world.everything, 10).await, [], "longer than the time-out too");
    (world.advance)(Duration::from_secs(1));
    let second = receive_one(&world.everything).await;
    assert_eq!(second.receive_count, 2);
    delete(&world.everything, &[second]).await;
    send(&world.filtered, &["at once"]).await;
    for count in 1..=3 {
        let delivery = receive_one(&world.filtered).await;
        assert_eq!(delivery.receive_count, count, "a release without delay shows it at once");
        world.filtered.settle(release(&delivery, Duration::ZERO)).await.pop().unwrap().unwrap();
    }
    assert_eq!(drain(&world.filtered).await, ["at once"]);
}

async fn a_receive_takes_at_most_its_limit(world: &World) {
    send(&world.everything, &["1", "2", "3", "4", "5"]).await;
    let mut bodies = Vec::new();
    for count in [2, 2, 1, 0] {
        let received = receive(&world.everything, 2).await;
        assert_eq!(received.len(), count, "messages come until there are none");
        delete(&world.everything, &received).await;
        bodies.extend(received.into_iter().map(|delivery| delivery.body));
    }
    bodies.sort();
    assert_eq!(bodies, ["1", "2", "3", "4", "5"]);
}

async fn consumers_side_by_side_get_each_message_once(world: &World) {
    let bodies: Vec<String> = (0..60).map(|n| format!("{n:02}")).collect();
    send(&world.everything, &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let consumers: Vec<_> = (0..4)
        .map(|_| {
            let queue = world.everything.clone();
            tokio::spawn(async move { drain(&queue).await })
        })
        .collect();
    let mut received = Vec::new();
    for consumer in consumers {
        received.extend(consumer.await.unwrap());
    }
    received.sort();
    assert_eq!(received, bodies, "none is lost and none comes twice");
}

async fn each_item_of_a_batch_has_its_own_result(world: &World) {
    send(&world.everything, &["1", "2"]).await;
    let received = receive(&world.everything, 10).await;
    let outcomes = vec![
        (received[0].receipt.clone(), Settlement::Delete),
        (Receipt("nonsense".into()), Settlement::Delete),
        (received[0].receipt.clone(), Settlement::Delete),
        (received[1].receipt.clone(), Settlement::Release(Duration::ZERO)),
    ];
    let results = world.everything.settle(outcomes).await;
    let oks: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(oks, [true, false, false, true], "results come in order and one failure takes no other item with it");
    assert_eq!(drain(&world.everything).await, [received[1].body.clone()]);
}

async fn a_message_received_too_often_becomes_a_dead_letter(world: &World) {
    let poison = Message { events: 3, ..in_area("poison", &["web"]) };
    world.everything.send(vec![poison.clone(), message("fine")]).await.into_iter().for_each(Result::unwrap);
    for count in 1..=MAX_RECEIVE_COUNT {
        let received = receive(&world.everything, 10).await;
        let delivery = received.iter().find(|delivery| delivery.body == "poison").expect("still in its queue");
        assert_eq!(delivery.receive_count, count);
        let fine: Vec<Delivery> = received.iter().filter(|delivery| delivery.body == "fine").cloned().collect();
        delete(&world.everything, &fine).await;
        assert_eq!(receive(&world.dead_letters, 10).await, [], "not a dead letter yet");
        (world.advance)(VISIBILITY_TIMEOUT);
    }
    assert_eq!(receive(&world.everything, 10).await, [], "one time more and it is not delivered");
    let letter = receive_one(&world.dead_letters).await;
    assert_eq!((letter.body.as_str(), &letter.attributes), ("poison", &poison.attributes), "it is moved as it is");
    delete(&world.dead_letters, &[letter]).await;
    let depth = world.everything.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0), "it left its queue");
}

/// Makes these messages dead letters.
async fn kill(world: &World, bodies: &[&str]) {
    send(&world.everything, bodies).await;
    for _ in 0..MAX_RECEIVE_COUNT {
        assert_eq!(receive(&world.everything, 10).await.len(), bodies.len());
        (world.advance)(VISIBILITY_TIMEOUT);
    }
    assert_eq!(receive(&world.everything, 10).await, []);
}

async fn dead_letters_can_be_redriven(world: &World) {
    let Some(console) = &world.console else { return };
    kill(world, &["1", "2", "3"]).await;
    assert_eq!(console.redrive("DeadLetters", 2).await.unwrap(), 2, "at most the limit");
    let received = receive(&world.everything, 10).await;
    assert_eq!(received.len(), 2, "they are back in their queue");
    assert!(received.iter().all(|delivery| delivery.receive_count == 1), "and their count starts anew");
    delete(&world.everything, &received).await;
    assert_eq!(console.redrive("DeadLetters", u64::MAX).await.unwrap(), 1, "the rest");
    assert_eq!(console.redrive("DeadLetters", 10).await.unwrap(), 0, "and then none");
    assert_eq!(drain(&world.everything).await.len(), 1);
    assert_kind(console.redrive("NoSuchQueue", 1).await, ErrorKind::NotFound, "a queue that does not exist");
}

async fn looking_is_not_receiving(world: &World) {
    let Some(console) = &world.console else { return };
    // Where a look counts, it must not make dead letters; these are.
    send(&world.dead_letters, &["first"]).await;
    (world.advance)(Duration::from_secs(1));
    send(&world.dead_letters, &["second"]).await;
    for limit in [1, 2, 10] {
        let seen = console.peek("DeadLetters", limit).await.unwrap();
        assert_eq!(seen.len(), limit.min(2), "at most the limit");
        if limit > 1 {
            let bodies: Vec<&str> = seen.iter().map(|delivery| delivery.body.as_str()).collect();
            assert_eq!(bodies, ["first", "second"], "oldest first");
        }
        for delivery in seen {
            assert!(delivery.receive_count == 0 || world.looks_count, "looking does not count");
            let outcome = world.dead_letters.settle(vec![(delivery.receipt, Settlement::Delete)]).await.pop().unwrap();
            assert_kind(outcome, ErrorKind::NotFound, "and gives no right to settle");
        }
    }
    assert_kind(console.peek("NoSuchQueue", 1).await, ErrorKind::NotFound, "a queue that does not exist");
    let listed = console.list().await.unwrap();
    let names: Vec<(&str, u64, Option<&str>)> =
        listed.iter().map(|(name, depth, dead)| (name.as_str(), depth.visible, dead.as_deref())).collect();
    let expected = [("DeadLetters", 2, None), ("Everything", 0, Some("DeadLetters")), ("Filtered", 0, None)];
    assert_eq!(names, expected, "all queues, by name");
    assert_eq!(drain(&world.dead_letters).await.len(), 2);
}

async fn depth_adds_up(world: &World) {
    world.everything.send(vec![Message { events: 5, ..message("12345") }]).await.pop().unwrap().unwrap();
    (world.advance)(Duration::from_secs(2));
    world.everything.send(vec![Message { events: 2, ..message("12") }]).await.pop().unwrap().unwrap();
    let first = receive_one(&world.everything).await;
    let depth = world.everything.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (1, 1));
    assert!(depth.events.is_none_or(|events| events == 7), "events of both, not {:?}", depth.events);
    assert!(depth.bytes.is_none_or(|bytes| bytes == 7), "bytes of both, not {:?}", depth.bytes);
    assert!(depth.oldest_ms.is_none_or(|age_ms| age_ms >= 2_000), "the age of the oldest, not {:?}", depth.oldest_ms);
    delete(&world.everything, &[first]).await;
    assert_eq!(drain(&world.everything).await.len(), 1);
    let depth = world.everything.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight, depth.oldest_ms), (0, 0, None));
    assert_eq!((depth.events.unwrap_or(0), depth.bytes.unwrap_or(0)), (0, 0));
}

async fn a_message_that_is_too_large_is_refused_alone(world: &World) {
    let sized = |bytes: usize| message(&"x".repeat(bytes));
    let sent = world.everything.send(vec![sized(1), sized(1_024 * 1_024 + 1), sized(1_024 * 1_024)]).await;
    let kinds: Vec<Option<ErrorKind>> = sent.into_iter().map(|result| result.err().map(|error| error.kind)).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::TooLarge), None], "a queue takes 1 MiB");
    assert_eq!(drain(&world.everything).await.len(), 2);
    let sent = world.topic.publish(vec![sized(256 * 1_024), sized(256 * 1_024 + 1), sized(1)]).await;
    let kinds: Vec<Option<ErrorKind>> = sent.into_iter().map(|result| result.err().map(|error| error.kind)).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::TooLarge), None], "a topic takes 256 KiB");
    assert_eq!(drain(&world.everything).await.len(), 2);
}

/// Starts a receive that waits for a minute, and gives it the time to begin.
async fn waiting(queue: &Arc<dyn Queue>) -> tokio::task::JoinHandle<Vec<Delivery>> {
    let queue = queue.clone();
    let waiting = tokio::spawn(async move { queue.receive(10, Duration::from_secs(60)).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!waiting.is_finished(), "there is nothing to receive yet");
    waiting
}

async fn woken(waiting: tokio::task::JoinHandle<Vec<Delivery>>) -> Vec<Delivery> {
    let received = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    received.expect("a waiting receiver gets what arrives, long before its wait is over").unwrap()
}

async fn a_send_wakes_a_waiting_receiver(world: &World) {
    let receiver = waiting(&world.everything).await;
    send(&world.everything, &["sent"]).await;
    delete(&world.everything, &woken(receiver).await).await;
    let receiver = waiting(&world.filtered).await;
    world.topic.publish(vec![in_area("published", &["alert"])]).await.pop().unwrap().unwrap();
    delete(&world.filtered, &woken(receiver).await).await;
    assert_eq!(drain(&world.everything).await, ["published"]);
}

async fn a_release_wakes_a_waiting_receiver(world: &World) {
    send(&world.everything, &["released"]).await;
    let first = receive_one(&world.everything).await;
    let receiver = waiting(&world.everything).await;
    let release = vec![(first.receipt, Settlement::Release(Duration::ZERO))];
    world.everything.settle(release).await.pop().unwrap().unwrap();
    delete(&world.everything, &woken(receiver).await).await;
}

async fn an_empty_queue_answers_after_the_wait(world: &World) {
    let began = std::time::Instant::now();
    let wait = Duration::from_millis(50);
    assert_eq!(world.everything.receive(10, wait).await.unwrap(), []);
    assert!(began.elapsed() >= wait, "it waits as long as it was asked to");
}

async fn tallies_go_with_the_message(world: &World) {
    let Some(table) = &world.table else { return };
    let tally = |field: &str, by| Tally { counter: "contract#1".to_owned(), field: field.to_owned(), by };
    let counted =
        |bytes: usize| Message { tally: vec![tally("events", 3), tally("messages", 1)], ..message(&"x".repeat(bytes)) };
    let sent = world.topic.publish(vec![counted(1), counted(300 * 1_024), counted(2)]).await;
    assert_eq!(sent.iter().filter(|result| result.is_ok()).count(), 2);
    let counted_so_far = async || {
        let rows = table.query(Query::prefix("counter", "", 1_000)).await.unwrap();
        let sum = |field: &str| rows.iter().flat_map(Tally::of).filter(|t| t.field == field).map(|t| t.by).sum::<i64>();
        [sum("events"), sum("messages")]
    };
    assert_eq!(counted_so_far().await, [6, 2], "what was refused is not counted");
    world.filtered.send(vec![counted(1)]).await.pop().unwrap().unwrap();
    assert_eq!(counted_so_far().await, [9, 3], "a queue counts too");
    assert_eq!(drain(&world.everything).await.len(), 2);
    assert_eq!(drain(&world.filtered).await.len(), 1);
}

async fn old_messages_are_gone(world: &World) {
    if !world.days_can_pass {
        return;
    }
    send(&world.filtered, &["old"]).await;
    (world.advance)(RETENTION - Duration::from_secs(10));
    send(&world.filtered, &["young"]).await;
    (world.advance)(Duration::from_secs(20));
    assert_eq!(drain(&world.filtered).await, ["young"], "a message older than the retention is not delivered");
}
