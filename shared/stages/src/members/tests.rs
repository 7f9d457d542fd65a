use super::*;
use crate::passwords::Cost;
use sluice_domain::time::SECOND_US;
use sluice_testkit::fault::{Fault, Faulty};
use sluice_testkit::memory::MemoryTable;

const PASSWORD: &str = "correct horse";

fn now() -> Timestamp {
    Timestamp::from_micros(1_795_255_200_000_000).unwrap()
}

fn members() -> (Arc<Faulty<MemoryTable>>, Members) {
    let table = Arc::new(Faulty::new(MemoryTable::new()));
    let passwords = Passwords::new(Cost { memory_kib: 8, passes: 1 }).unwrap();
    (table.clone(), Members::new(table, passwords))
}

fn newcomer(email: &str) -> Newcomer<'_> {
    Newcomer { email, name: "Kim", password: PASSWORD }
}

/// Members with an admin who can sign in.
async fn with_admin() -> (Arc<Faulty<MemoryTable>>, Members, Member) {
    let (table, members) = members();
    let link = members.first_link(now()).await.unwrap().unwrap();
    let admin = members.join(&link, newcomer("admin@example.org"), now()).await.unwrap();
    (table, members, admin)
}

#[tokio::test]
async fn the_first_link_makes_the_first_admin_once() {
    let (table, members, admin) = with_admin().await;
    assert_eq!((admin.role, admin.name.as_str()), (Role::Admin, "Kim"));
    assert_eq!(members.first_link(now()).await.unwrap(), None);
    assert!(!table.inner().items().iter().any(|item| item.value.to_string().contains(PASSWORD)));
    assert_eq!(members.sign_in("ADMIN@example.org", PASSWORD).await.unwrap().member, admin);
}

#[tokio::test]
async fn a_first_link_is_used_once_in_time_and_only_the_newest_opens() {
    let (_, members) = members();
    let old = members.first_link(now()).await.unwrap().unwrap();
    let link = members.first_link(now()).await.unwrap().unwrap();
    let join = |token: String, at| {
        let members = &members;
        async move { members.join(&token, newcomer("a@example.org"), at).await }
    };
    assert!(matches!(join(old, now()).await, Err(MembersError::Link)));
    assert!(matches!(join(link.clone(), now().plus_micros(INVITATION_US)).await, Err(MembersError::Link)));
    for other in ["", "first", "first.", "first.x", ".", "m_0.x", &format!("first.{}", "x".repeat(300))] {
        assert!(matches!(join(other.to_owned(), now()).await, Err(MembersError::Link)), "{other}");
    }
    join(link.clone(), now().plus_micros(INVITATION_US - 1)).await.unwrap();
    assert!(matches!(join(link, now()).await, Err(MembersError::Link)));
}

#[tokio::test]
async fn two_who_use_the_first_link_at_once_make_one_admin() {
    let (_, members) = members();
    let link = members.first_link(now()).await.unwrap().unwrap();
    let joins = ["a@example.org", "b@example.org"].map(|email| members.join(&link, newcomer(email), now()));
    let made = futures::future::join_all(joins).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
    assert_eq!(members.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_invitation_is_for_its_address_in_time_and_used_once() {
    let (_, members, _) = with_admin().await;
    let invited = members.invite("Lee@example.org", "", Role::Editor, now()).await.unwrap();
    assert_eq!(invited.expires_at, now().plus_micros(INVITATION_US).to_micros_text());
    assert!(matches!(members.sign_in("lee@example.org", PASSWORD).await, Err(MembersError::Credentials)));
    let late = members.join(&invited.token, newcomer("lee@example.org"), now().plus_micros(INVITATION_US)).await;
    assert!(matches!(late, Err(MembersError::Link)));
    let other = members.join(&invited.token, newcomer("other@example.org"), now()).await;
    assert!(matches!(other, Err(MembersError::Invalid("email", _))));
    let lee = members.join(&invited.token, newcomer("lee@EXAMPLE.org"), now()).await.unwrap();
    assert_eq!((lee.id.as_str(), lee.role, lee.email.as_str()), (&*invited.member.id, Role::Editor, "Lee@example.org"));
    assert!(matches!(members.join(&invited.token, newcomer("lee@example.org"), now()).await, Err(MembersError::Link)));
    assert!(members.sign_in("lee@example.org", PASSWORD).await.is_ok());
    assert!(matches!(members.invite("lee@example.org", "", Role::Viewer, now()).await, Err(MembersError::Exists)));
}

#[tokio::test]
async fn a_second_invitation_takes_the_place_of_the_first() {
    let (_, members, _) = with_admin().await;
    let old = members.invite("lee@example.org", "Lee", Role::Viewer, now()).await.unwrap();
    let new = members.invite("lee@example.org", "Lee", Role::Admin, now()).await.unwrap();
    assert_eq!((&new.member.id, new.member.role), (&old.member.id, Role::Admin));
    assert!(matches!(members.join(&old.token, newcomer("lee@example.org"), now()).await, Err(MembersError::Link)));
    members.join(&new.token, newcomer("lee@example.org"), now()).await.unwrap();
    assert_eq!(members.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_are_answered_alike() {
    let (table, members, _) = with_admin().await;
    let long = "x".repeat(300);
    for (email, password) in [
        ("admin@example.org", "wrong horse"),
        ("nobody@example.org", PASSWORD),
        ("no address", PASSWORD),
        ("admin@example.org", ""),
        ("admin@example.org", long.as_str()),
    ] {
        let before = table.calls("table.get");
        assert!(matches!(members.sign_in(email, password).await, Err(MembersError::Credentials)), "{email}");
        assert_eq!(table.calls("table.get") - before, 2, "the same reads: {email}");
    }
}

#[tokio::test]
async fn the_last_admin_stays() {
    let (table, members, admin) = with_admin().await;
    for role in [Role::Editor, Role::Viewer] {
        assert!(matches!(members.change(&admin.id, Some(role), None).await, Err(MembersError::LastAdmin)));
    }
    assert!(matches!(members.remove(&admin.id).await, Err(MembersError::LastAdmin)));
    // One who was invited and has not come administers nothing.
    let lee = members.invite("lee@example.org", "Lee", Role::Admin, now()).await.unwrap();
    assert!(matches!(members.remove(&admin.id).await, Err(MembersError::LastAdmin)));
    members.join(&lee.token, newcomer("lee@example.org"), now()).await.unwrap();
    assert_eq!(table.inner().value("members", "census").unwrap(), json!({"count": 2, "admins": 2}));
    // Two at once cannot lower each other.
    let both = [&admin.id, &lee.member.id].map(|id| members.change(id, Some(Role::Viewer), None));
    let changed = futures::future::join_all(both).await;
    assert_eq!(changed.iter().filter(|changed| changed.is_ok()).count(), 1);
    assert_eq!(table.inner().value("members", "census").unwrap(), json!({"count": 2, "admins": 1}));
}

#[tokio::test]
async fn members_are_changed_and_removed_and_their_address_is_free_again() {
    let (_, members, _) = with_admin().await;
    let lee = members.invite("lee@example.org", "Lee", Role::Viewer, now().plus_micros(1)).await.unwrap().member;
    let changed = members.change(&lee.id, Some(Role::Editor), Some(" 이 몽룡 ")).await.unwrap();
    assert_eq!((changed.role, changed.name.as_str()), (Role::Editor, "이 몽룡"));
    assert_eq!(members.change(&lee.id, None, None).await.unwrap(), changed);
    assert_eq!(members.list().await.unwrap()[1], changed);
    members.remove(&lee.id).await.unwrap();
    assert!(matches!(members.remove(&lee.id).await, Err(MembersError::NotFound)));
    assert!(matches!(members.change(&lee.id, None, Some("x")).await, Err(MembersError::NotFound)));
    assert!(matches!(members.change(&"x".repeat(2_000), None, None).await, Err(MembersError::NotFound)));
    assert_ne!(members.invite("lee@example.org", "Lee", Role::Viewer, now()).await.unwrap().member.id, lee.id);
}

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_begins_a_new_generation() {
    let (_, members, admin) = with_admin().await;
    assert!(matches!(
        members.set_password(&admin.id, "wrong horse", "battery staple").await,
        Err(MembersError::Credentials)
    ));
    assert!(matches!(members.set_password(&admin.id, PASSWORD, "short").await, Err(MembersError::Invalid("new", _))));
    let before = members.get(&admin.id).await.unwrap().unwrap().generation;
    let after = members.set_password(&admin.id, PASSWORD, "battery staple").await.unwrap();
    assert_eq!(after.generation, before + 1);
    assert!(matches!(members.sign_in("admin@example.org", PASSWORD).await, Err(MembersError::Credentials)));
    assert!(members.sign_in("admin@example.org", "battery staple").await.is_ok());
}

#[tokio::test]
async fn what_is_not_of_its_form_is_named() {
    let (_, members) = members();
    for email in
        ["", "lee", "@example.org", "lee@", "a@b@c", "l ee@example.org", "lee@exa\nmple.org", "<lee@example.org>"]
    {
        let refused = members.invite(email, "Lee", Role::Viewer, now()).await;
        assert!(matches!(refused, Err(MembersError::Invalid("email", _))), "{email}");
    }
    let long = format!("{}@example.org", "x".repeat(MAX_EMAIL_BYTES));
    assert!(matches!(members.invite(&long, "Lee", Role::Viewer, now()).await, Err(MembersError::Invalid("email", _))));
    let link = members.first_link(now()).await.unwrap().unwrap();
    for (who, field) in [
        (Newcomer { name: " ", ..newcomer("a@example.org") }, "name"),
        (Newcomer { name: "a\u{7}b", ..newcomer("a@example.org") }, "name"),
        (Newcomer { password: "1234567", ..newcomer("a@example.org") }, "password"),
        (newcomer("a"), "email"),
    ] {
        let refused = members.join(&link, who, now()).await;
        assert!(matches!(refused, Err(MembersError::Invalid(at, _)) if at == field), "{who:?}");
    }
    // None of this used the link up.
    members.join(&link, Newcomer { password: "비밀번호여덟글자", ..newcomer("a@example.org") }, now()).await.unwrap();
}

#[tokio::test]
async fn a_write_whose_reply_was_lost_is_not_done_twice() {
    for fault in [Fault::After, Fault::Before(ErrorKind::Timeout)] {
        let (table, members) = members();
        let link = members.first_link(now()).await.unwrap().unwrap();
        table.script("table.write", [fault.clone()]);
        let admin = members.join(&link, newcomer("a@example.org"), now()).await.unwrap();
        table.script("table.write", [fault.clone()]);
        let lee = members.invite("lee@example.org", "Lee", Role::Viewer, now()).await.unwrap();
        table.script("table.write", [fault.clone()]);
        members.join(&lee.token, newcomer("lee@example.org"), now()).await.unwrap();
        table.script("table.write", [fault.clone()]);
        members.set_password(&admin.id, PASSWORD, "battery staple").await.unwrap();
        table.script("table.write", [fault.clone()]);
        members.remove(&lee.member.id).await.unwrap();
        assert_eq!(table.inner().value("members", "census").unwrap(), json!({"count": 1, "admins": 1}), "{fault:?}");
    }
}

#[tokio::test]
async fn a_table_that_is_away_is_said_so() {
    let (table, members, admin) = with_admin().await;
    table.always("table.get", Fault::Before(ErrorKind::Unavailable));
    assert!(
        matches!(members.sign_in("admin@example.org", PASSWORD).await, Err(MembersError::Port(e)) if e.is_transient())
    );
    assert!(matches!(members.remove(&admin.id).await, Err(MembersError::Port(_))));
    assert!(members.first_link(now().plus_micros(SECOND_US)).await.is_err());
}

#[tokio::test]
async fn the_number_of_members_is_bounded() {
    let (table, members) = members();
    let value = json!({"count": MAX_MEMBERS, "admins": 1});
    table.write(vec![put(census_key(), value, Condition::Any)]).await.unwrap();
    assert!(matches!(members.invite("a@example.org", "", Role::Viewer, now()).await, Err(MembersError::TooMany)));
}

#[test]
fn roles_include_those_below_them() {
    for (role, grants) in
        [(Role::Viewer, [true, false, false]), (Role::Editor, [true, true, false]), (Role::Admin, [true; 3])]
    {
        assert_eq!([Right::Read, Right::Edit, Right::Admin].map(|right| role.grants(right)), grants, "{}", role.name());
    }
}
