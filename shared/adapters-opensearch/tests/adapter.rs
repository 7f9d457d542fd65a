//! The adapter against played servers: what it sends, and what it makes of answers that a real server seldom gives.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response};
use serde_json::{Value, json};
use sluice_adapters_opensearch::{Access, OpenSearch, OpenSearchSettings, Place};
use sluice_ports::{Document, DocumentOutcome, ErrorKind, IndexTemplate, Search};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// A request as the server got it.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    headers: HeaderMap,
    body: String,
}

type Answer = (u16, Vec<(&'static str, String)>, String);
type Play = dyn Fn(usize, &Seen) -> Answer + Send + Sync;

/// A server that plays a part.
#[derive(Clone)]
struct Fake {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    play: Arc<Play>,
}

impl Fake {
    async fn start(play: impl Fn(usize, &Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fake = Self { url, seen: Arc::default(), play: Arc::new(play) };
        let router = axum::Router::new().fallback(Self::take).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    async fn take(State(fake): State<Self>, request: Request) -> Response<Body> {
        let line = format!("{} {}", request.method(), request.uri());
        let headers = request.headers().clone();
        let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
        let seen = Seen { line, headers, body: String::from_utf8(body.to_vec()).unwrap() };
        let number = {
            let mut all = fake.seen.lock().unwrap();
            all.push(seen.clone());
            all.len() - 1
        };
        let (status, headers, body) = (fake.play)(number, &seen);
        let reply = Response::builder().status(status).header("content-type", "application/json");
        headers
            .into_iter()
            .fold(reply, |reply, (name, value)| reply.header(name, value))
            .body(Body::from(body))
            .unwrap()
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn adapter(&self, settings: OpenSearchSettings) -> OpenSearch {
        OpenSearch::new(Place::Url(self.url.clone()), Access::Open, settings).unwrap()
    }
}

fn ok(body: Value) -> Answer {
    (200, vec![], body.to_string())
}

/// An answer in which every document was created.
fn all_created(seen: &Seen) -> Answer {
    let items: Vec<Value> = seen.body.lines().skip(1).step_by(2).map(|_| json!({"create": {"status": 201}})).collect();
    ok(json!({"errors": false, "items": items}))
}

fn documents(count: usize, bytes: usize) -> Vec<Document> {
    let document = |n| Document {
        index: "i-1".into(),
        id: format!("d{n}"),
        source: json!({"n": n, "text": "x".repeat(bytes)}).to_string(),
    };
    (0..count).map(document).collect()
}

fn short(outcomes: &[DocumentOutcome]) -> Vec<String> {
    let short = |outcome: &DocumentOutcome| match outcome {
        DocumentOutcome::Created => "created".to_owned(),
        DocumentOutcome::Exists => "exists".to_owned(),
        DocumentOutcome::Rejected(_) => "rejected".to_owned(),
        DocumentOutcome::Failed(e) => format!("{:?}", e.kind),
    };
    outcomes.iter().map(short).collect()
}

fn small() -> OpenSearchSettings {
    OpenSearchSettings { bulk_bytes: 1_000, ..OpenSearchSettings::default() }
}

#[tokio::test]
async fn documents_go_in_requests_of_bounded_bytes_and_come_back_in_order() {
    let fake = Fake::start(|_, seen| all_created(seen)).await;
    let outcomes = fake.adapter(small()).create(documents(10, 200)).await.unwrap();
    assert_eq!(short(&outcomes), ["created"; 10]);
    let seen = fake.seen();
    assert!(seen.len() > 1 && seen.iter().all(|request| request.body.len() <= 1_000), "{}", seen.len());
    assert!(seen.iter().all(|request| request.line.starts_with("POST /_bulk?")));
    let ids: Vec<String> = seen
        .iter()
        .flat_map(|request| request.body.lines().step_by(2).map(|line| serde_json::from_str::<Value>(line).unwrap()))
        .map(|action| action["create"]["_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, (0..10).map(|n| format!("d{n}")).collect::<Vec<_>>());
    fake.adapter(small()).create(vec![]).await.unwrap();
    assert_eq!(fake.seen().len(), seen.len(), "nothing is sent for nothing");
}

#[tokio::test]
async fn a_request_that_is_too_large_for_the_server_is_halved_and_a_document_alone_is_rejected() {
    let fake =
        Fake::start(|_, seen| if seen.body.len() > 500 { (413, vec![], String::new()) } else { all_created(seen) })
            .await;
    let mut all = documents(4, 100);
    all.insert(2, Document { id: "large".into(), ..documents(1, 600).remove(0) });
    let outcomes = fake.adapter(OpenSearchSettings::default()).create(all).await.unwrap();
    assert_eq!(short(&outcomes), ["created", "created", "rejected", "created", "created"]);
    match &outcomes[2] {
        DocumentOutcome::Rejected(why) => assert!(why.contains("bytes, more than the server takes"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_status_of_200_with_errors_is_no_success_for_the_items_that_have_them() {
    let fake = Fake::start(|_, _| {
        ok(json!({"errors": true, "items": [
            {"create": {"status": 201}},
            {"create": {"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "failed to parse field [n]"}}},
            {"create": {"status": 429, "error": {"type": "rejected_execution_exception", "reason": "queue full"}}},
            {"create": {"status": 503, "error": {"type": "unavailable_shards_exception", "reason": "no primary"}}},
            {"create": {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "exists"}}},
        ]}))
    })
    .await;
    let mut all = documents(5, 10);
    all.insert(1, Document { source: "{\"a\":".into(), ..all[0].clone() });
    let outcomes = fake.adapter(OpenSearchSettings::default()).create(all).await.unwrap();
    assert_eq!(
        short(&outcomes),
        ["created", "rejected", "rejected", "Throttled", "Unavailable", "exists"],
        "what is no document is rejected without being sent"
    );
    assert_eq!(fake.seen()[0].body.lines().count(), 10);
}

#[tokio::test]
async fn a_throttled_call_says_when_to_come_again_and_a_later_request_is_not_sent() {
    let busy = |_: usize, _: &Seen| (429, vec![("retry-after", "7".to_owned())], String::new());
    let fake = Fake::start(busy).await;
    let error = fake.adapter(OpenSearchSettings::default()).create(documents(2, 10)).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after), (ErrorKind::Throttled, Some(Duration::from_secs(7))));

    let fake = Fake::start(move |number, seen| if number == 1 { busy(number, seen) } else { all_created(seen) }).await;
    let outcomes = fake.adapter(small()).create(documents(9, 250)).await.unwrap();
    assert_eq!(short(&outcomes)[..4], ["created", "created", "created", "Throttled"]);
    assert_eq!(short(&outcomes)[4..], ["Throttled"; 5]);
    assert_eq!(fake.seen().len(), 2);
}

#[tokio::test]
async fn an_answer_that_tells_of_too_few_documents_leaves_their_fate_open() {
    let fake = Fake::start(|_, _| ok(json!({"items": [{"create": {"status": 201}}]}))).await;
    let error = fake.adapter(OpenSearchSettings::default()).create(documents(2, 10)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_server_that_is_gone_silent_or_breaks_off_is_told_apart() {
    let settings = OpenSearchSettings { request_timeout: Duration::from_millis(300), ..OpenSearchSettings::default() };
    let adapter = |url: String| OpenSearch::new(Place::Url(url), Access::Open, settings).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = adapter(format!("http://{address}")).create(documents(1, 10)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "nothing was sent: {error}");

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = adapter(format!("http://{}", silent.local_addr().unwrap())).create(documents(1, 10)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout, "{error}");

    let breaking = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", breaking.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = breaking.accept().await {
            let _ = stream.read(&mut [0; 1_024]).await;
        }
    });
    let error = adapter(url.clone()).create(documents(1, 10)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout, "it may have been done: {error}");
    let error = adapter(url).search("i-*", &json!({})).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "a search changes nothing: {error}");
}

#[tokio::test]
async fn a_search_is_bounded_in_time_and_bytes_and_counts_exactly() {
    let fake = Fake::start(|_, seen| match seen.body.contains("slow") {
        true => ok(json!({"timed_out": true, "hits": {"hits": []}})),
        false => ok(json!({"timed_out": false, "hits": {"hits": [], "pad": "x".repeat(2_000)}})),
    })
    .await;
    let search = fake.adapter(OpenSearchSettings::default());
    search.search("sluice-a-*,sluice-b-1", &json!({"size": 3})).await.unwrap();
    search.search("sluice-a-*", &json!({"track_total_hits": 5})).await.unwrap();
    let error = search.search("sluice-*", &json!({"query": {"term": {"a": "slow"}}})).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout, "half an answer is none");
    let seen = fake.seen();
    assert_eq!(
        seen[0].line,
        "POST /sluice-a-*,sluice-b-1/_search?timeout=18000ms&allow_partial_search_results=false&ignore_unavailable=true"
    );
    assert_eq!(seen[0].body, r#"{"size":3,"track_total_hits":true}"#);
    assert_eq!(seen[1].body, r#"{"track_total_hits":5}"#);
    let tight = fake.adapter(OpenSearchSettings { answer_bytes: 1_000, ..OpenSearchSettings::default() });
    assert_eq!(tight.search("sluice-*", &json!({})).await.unwrap_err().kind, ErrorKind::TooLarge);
    for pattern in ["", "_cluster/settings", "a/../b", "a?b", "_nodes", "remote:index"] {
        assert_eq!(search.search(pattern, &json!({})).await.unwrap_err().kind, ErrorKind::Invalid, "{pattern}");
    }
    assert_eq!(fake.seen().len(), seen.len() + 1, "what is no index pattern is not sent");
}

#[tokio::test]
async fn a_template_that_is_refused_is_named() {
    let fake = Fake::start(|_, seen| match seen.line.as_str() {
        "PUT /_index_template/good" => ok(json!({"acknowledged": true})),
        _ => (400, vec![], json!({"error": {"type": "mapper_parsing_exception", "reason": "no handler"}}).to_string()),
    })
    .await;
    let template = |name: &str| IndexTemplate {
        name: name.into(),
        pattern: format!("{name}-*"),
        mappings: json!({"properties": {}}),
    };
    let search = fake.adapter(OpenSearchSettings::default());
    search.define(vec![template("good")]).await.unwrap();
    let error = search.define(vec![template("good"), template("bad")]).await.unwrap_err();
    assert_eq!(error.detail, "template `bad`: mapper_parsing_exception: no handler (status 400)");
    assert_eq!(error.kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn a_user_is_named_in_each_request_and_never_in_an_error() {
    let fake = Fake::start(|_, _| (401, vec![], "Unauthorized".into())).await;
    let access = Access::Basic { user: "sluice".into(), password: "not-to-be-seen".into() };
    let search = OpenSearch::new(Place::Url(fake.url.clone()), access, OpenSearchSettings::default()).unwrap();
    let error = search.search("i-*", &json!({})).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert_eq!(fake.seen()[0].headers["authorization"], "Basic c2x1aWNlOm5vdC10by1iZS1zZWVu");
    assert!(!format!("{error:?}").contains("not-to-be-seen"));
    for url in ["search.example.org", "ftp://search.example.org", "https://user:not-to-be-seen@search.example.org"] {
        let error = OpenSearch::new(Place::Url(url.into()), Access::Open, OpenSearchSettings::default()).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(!format!("{error:?}").contains("not-to-be-seen"), "{error:?}");
    }
}

#[cfg(feature = "sigv4")]
mod aws {
    use super::*;
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::SharedCredentialsProvider;
    use aws_types::SdkConfig;
    use aws_types::region::Region;
    use sluice_adapters_opensearch::SignedService;

    fn config(endpoint: &str) -> SdkConfig {
        let credentials = Credentials::new("AKIDEXAMPLE", "not-to-be-seen", Some("session".into()), None, "test");
        SdkConfig::builder()
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .region(Region::new("ap-northeast-2"))
            .endpoint_url(endpoint)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build()
    }

    #[tokio::test]
    async fn requests_are_signed_for_the_service_that_is_asked() {
        let fake = Fake::start(|_, seen| all_created(seen)).await;
        for (service, name) in [(SignedService::Domain, "es"), (SignedService::Serverless, "aoss")] {
            let access = Access::SigV4 { service, config: config(&fake.url) };
            let search = OpenSearch::new(Place::Url(fake.url.clone()), access, OpenSearchSettings::default()).unwrap();
            search.create(documents(2, 10)).await.unwrap();
            let seen = fake.seen().pop().unwrap();
            let authorization = seen.headers["authorization"].to_str().unwrap();
            assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{authorization}");
            assert!(authorization.contains(&format!("/ap-northeast-2/{name}/aws4_request")), "{authorization}");
            assert!(authorization.contains("x-amz-content-sha256"), "Serverless takes no request without it");
            assert_eq!(seen.headers["x-amz-security-token"], "session");
        }
        let nobody = Access::SigV4 { service: SignedService::Domain, config: SdkConfig::builder().build() };
        let error = OpenSearch::new(Place::Url(fake.url.clone()), nobody, OpenSearchSettings::default()).err().unwrap();
        assert!(error.detail.contains("region or credentials are missing"), "{error}");
    }

    #[cfg(feature = "domain")]
    #[tokio::test]
    async fn a_domain_is_looked_up_until_it_is_found_and_then_no_more() {
        // Nobody listens at the endpoint that is found.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        drop(listener);
        let fake = Fake::start(move |number, _| match number {
            0 => {
                let body = json!({"message": "Domain not found: events"}).to_string();
                (409, vec![("x-amzn-errortype", "ResourceNotFoundException".into())], body)
            }
            number => {
                let mut status = json!({"DomainId": "1/events", "DomainName": "events", "ARN": "arn:aws:es:r:1:domain/events",
                    "ClusterConfig": {}, "Processing": number == 1});
                if number > 1 {
                    status["Endpoint"] = json!(endpoint);
                }
                ok(json!({"DomainStatus": status}))
            }
        })
        .await;
        let client = aws_sdk_opensearch::config::Builder::from(&config(&fake.url));
        let version = aws_sdk_opensearch::config::BehaviorVersion::v2026_01_12();
        let client = aws_sdk_opensearch::Client::from_conf(client.behavior_version(version).build());
        let place = Place::Domain { name: "events".into(), client };
        let access = Access::SigV4 { service: SignedService::Domain, config: config(&fake.url) };
        let search = OpenSearch::new(place, access, OpenSearchSettings::default()).unwrap();
        let mut told = Vec::new();
        for _ in 0..4 {
            let error = search.search("i-*", &json!({})).await.unwrap_err();
            told.push((error.kind, error.operation));
            assert!(!format!("{error:?}").contains("not-to-be-seen"), "{error:?}");
        }
        assert_eq!(
            told,
            [
                (ErrorKind::NotFound, "search.open"),
                (ErrorKind::Unavailable, "search.open"),
                (ErrorKind::Unavailable, "search.search"),
                (ErrorKind::Unavailable, "search.search"),
            ]
        );
        assert_eq!(fake.seen().len(), 3, "the endpoint is kept");
        assert_eq!(fake.seen()[0].line, "GET /2021-01-01/opensearch/domain/events");
    }
}
