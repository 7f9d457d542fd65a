//! Every route of the HTTP side: what is allowed at a path, what requests are counted as, and the OpenAPI document come from this one list.
//!
//! Source of the document's form: the OpenAPI Specification, 3.1.0.

use crate::requests::OTHER;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// What a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: anybody may.
    Nothing,
    /// A `write` key.
    Write,
    /// A `read` key, or any member.
    Read,
    /// The same, and from an address of the setting `metrics_allowed` nothing.
    ReadFromElsewhere,
    /// An `admin` key, or an editor.
    Edit,
    /// An `admin` key, or an admin.
    Admin,
    /// A session.
    Session,
}

/// One method of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// In upper case.
    pub method: &'static str,
    /// With its variables in braces, each one segment.
    pub template: &'static str,
    /// What it takes.
    pub needs: Needs,
    /// What it does.
    pub summary: &'static str,
    /// Names in the query.
    pub query: &'static [&'static str],
    /// JSON Schema of the body, as text; empty where there is none.
    pub body: &'static str,
    /// Status of a good answer.
    pub status: u16,
    /// Its content types; none where it has no body.
    pub content: &'static [&'static str],
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const CSV: &str = "text/csv";

const fn get(template: &'static str, needs: Needs, summary: &'static str) -> Operation {
    Operation { method: "GET", template, needs, summary, query: &[], body: "", status: 200, content: &[JSON] }
}

const fn post(template: &'static str, needs: Needs, summary: &'static str, body: &'static str) -> Operation {
    Operation { method: "POST", body, ..get(template, needs, summary) }
}

const fn delete(template: &'static str, needs: Needs, summary: &'static str) -> Operation {
    Operation { method: "DELETE", status: 204, content: &[], ..get(template, needs, summary) }
}

const ANY_OBJECT: &str = r#"{"type":"object"}"#;
const SEARCH: &str = r#"{"type":["object","null"]}"#;
const EVENTS: &str = r##"{"oneOf":[{"$ref":"#/components/schemas/Event"},{"type":"array","items":{"$ref":"#/components/schemas/Event"}}]}"##;
const GAME_START: &str = r#"{"type":"object","required":["userId"],"properties":{"userId":{"type":["number","string"]},"timestamp":{"type":["number","string","null"]},"event":{"enum":["game_start",null]},"details":{"type":["object","null"],"properties":{"clickedAt":{"type":["integer","null"]}}}}}"#;
const GAME_DATA: &str = r#"{"type":"object","required":["userId","totalSquares","clickedCount"],"properties":{"userId":{"type":["number","string"]},"timestamp":{"type":["number","string","null"]},"totalSquares":{"type":"integer","minimum":0},"clickedCount":{"type":"integer","minimum":0},"successRate":{"type":["number","null"]}}}"#;
const SQL: &str = r#"{"type":"object","required":["sql"],"additionalProperties":false,"properties":{"sql":{"type":"string"},"parameters":{"type":"array"},"max_rows":{"type":"integer","minimum":1}}}"#;
const COMPACT: &str = r#"{"type":"object","additionalProperties":false,"properties":{"table":{"type":["string","null"]},"partition":{"type":["string","null"]},"dry_run":{"type":"boolean"}}}"#;
const ERASURE: &str = r#"{"type":"object","required":["userid"],"additionalProperties":false,"properties":{"userid":{"type":"string","minLength":1,"maxLength":1024}}}"#;
const REDRIVE: &str =
    r#"{"type":"object","additionalProperties":false,"properties":{"limit":{"type":"integer","minimum":0}}}"#;
const NEW_KEY: &str = r#"{"type":"object","additionalProperties":false,"properties":{"scope":{"enum":["write","read","admin"]},"sources":{"type":"array","items":{"type":"string"}},"types":{"type":"array","items":{"type":"string"}},"origins":{"type":"array","items":{"type":"string"}},"max_age_days":{"type":["integer","null"],"minimum":0},"rate_per_s":{"type":["integer","null"],"minimum":1},"name":{"type":"string"}}}"#;
const SIGN_IN: &str = r#"{"type":"object","required":["email","password"],"additionalProperties":false,"properties":{"email":{"type":"string"},"password":{"type":"string"},"link":{"type":"string"},"name":{"type":"string"}}}"#;
const INVITE: &str = r#"{"type":"object","required":["email","role"],"additionalProperties":false,"properties":{"email":{"type":"string"},"name":{"type":"string"},"role":{"enum":["viewer","editor","admin"]}}}"#;
const CHANGE: &str = r#"{"type":"object","additionalProperties":false,"properties":{"name":{"type":"string"},"role":{"enum":["viewer","editor","admin"]}}}"#;
const PASSWORD: &str = r#"{"type":"object","required":["old","new"],"additionalProperties":false,"properties":{"old":{"type":"string"},"new":{"type":"string"}}}"#;
const NEW_CHANNEL: &str = r#"{"type":"object","required":["kind","name"],"additionalProperties":false,"properties":{"kind":{"enum":["email","webhook"]},"name":{"type":"string"},"operator":{"type":"boolean"},"to":{"type":"array","items":{"type":"string"}},"url":{"type":"string"}}}"#;
const CHANGED_CHANNEL: &str = r#"{"type":"object","additionalProperties":false,"properties":{"name":{"type":"string"},"operator":{"type":"boolean"},"to":{"type":"array","items":{"type":"string"}}}}"#;
const REPAIR: &str = r#"{"type":"object","required":["repairs"],"additionalProperties":false,"properties":{"repairs":{"type":"array","items":{"type":"object","required":["handle","text"],"additionalProperties":false,"properties":{"handle":{"type":"string"},"text":{"type":"string"}}}},"dry_run":{"type":"boolean"}}}"#;
const REPLAY: &str = r#"{"type":"object","additionalProperties":false,"properties":{"handles":{"type":["array","null"],"items":{"type":"string"}},"select":{"type":["object","null"]},"after":{"type":["string","null"]},"dry_run":{"type":"boolean"}}}"#;

/// What a list of quarantine is narrowed by.
const SELECT: &[&str] = &["from", "to", "code", "origin", "type", "key", "state", "after", "limit"];

/// All operations. Of two templates that fit a path the first is meant.
pub const OPERATIONS: &[Operation] = &[
    Operation { status: 202, ..post("/v1/events", Needs::Write, "Takes events in", EVENTS) },
    Operation {
        content: &[TEXT],
        ..post("/api/log-game-start", Needs::Nothing, "Takes a start of an old page in", GAME_START)
    },
    Operation {
        content: &[TEXT],
        ..post("/api/log-game-data", Needs::Nothing, "Takes a result of an old page in", GAME_DATA)
    },
    get("/api/status", Needs::Nothing, "Whether the server is up, for old pages"),
    get("/health", Needs::Nothing, "Whether the server is up"),
    Operation {
        content: &[TEXT],
        ..get("/metrics", Needs::ReadFromElsewhere, "Metrics for Prometheus; for allowed addresses without a key")
    },
    get("/openapi.json", Needs::Nothing, "This document"),
    Operation {
        query: &["index"],
        ..post("/v1/search", Needs::Read, "Searches, by OpenSearch's query language", SEARCH)
    },
    post("/v1/sql", Needs::Read, "Runs one SELECT over the lake", SQL),
    get("/v1/reports", Needs::Read, "The questions to the lake that have a name, with their parameters"),
    Operation {
        query: &["format"],
        content: &[JSON, CSV],
        ..get(
            "/v1/reports/{name}",
            Needs::Read,
            "Runs a report; the query has its parameters too, as its row in the list names them",
        )
    },
    get("/v1/tables", Needs::Read, "The tables of the lake with their columns, and their figures"),
    post("/v1/tables/compact", Needs::Edit, "Merges small files of the lake now", COMPACT),
    get("/v1/retention", Needs::Read, "How long what is kept is kept"),
    Operation {
        status: 200,
        content: &[JSON],
        ..delete("/v1/users/{userid}", Needs::Admin, "Erases a user whose id is plain, as `POST /v1/erasures` does")
    },
    post(
        "/v1/erasures",
        Needs::Admin,
        "Erases what was received of a user, and gives a receipt; 202 while it is not done",
        ERASURE,
    ),
    get("/v1/erasures", Needs::Admin, "The erasures that were asked for, without the users' names"),
    get("/v1/erasures/{id}", Needs::Admin, "How far an erasure is, and what it took away"),
    Operation {
        query: &["index"],
        ..get("/v1/events/{document}/way", Needs::Read, "What became of an event, by its document in the search")
    },
    get("/v1/status", Needs::Read, "Queues and ledger in short"),
    Operation { query: &["from", "to", "type", "deep"], ..get("/v1/ledger", Needs::Read, "Audits the ledger") },
    get("/v1/queues", Needs::Read, "The queues"),
    Operation { query: &["limit"], ..get("/v1/queues/{name}/messages", Needs::Edit, "Looks at messages of a queue") },
    post("/v1/queues/{name}/redrive", Needs::Edit, "Sends dead letters again", REDRIVE),
    get("/v1/channels", Needs::Edit, "Where alerts go, without the addresses of webhooks"),
    Operation {
        status: 201,
        ..post("/v1/channels", Needs::Admin, "Makes a channel and shows its signing key, this once", NEW_CHANNEL)
    },
    Operation { method: "PATCH", ..post("/v1/channels/{id}", Needs::Admin, "Changes a channel", CHANGED_CHANNEL) },
    delete("/v1/channels/{id}", Needs::Admin, "Removes a channel"),
    post("/v1/channels/{id}/test", Needs::Admin, "Sends a message to a channel and says what became of it", ""),
    Operation {
        query: &["state", "limit"],
        ..get("/v1/incidents", Needs::Read, "What went wrong in the product itself, newest first")
    },
    get("/v1/rules", Needs::Edit, "All rules"),
    Operation { status: 201, ..post("/v1/rules", Needs::Edit, "Makes a rule", ANY_OBJECT) },
    get("/v1/rules/{id}", Needs::Edit, "A rule"),
    delete("/v1/rules/{id}", Needs::Edit, "Removes a rule"),
    get("/v1/keys", Needs::Admin, "All keys, without their secrets"),
    Operation { status: 201, ..post("/v1/keys", Needs::Admin, "Makes a key and shows its secret, this once", NEW_KEY) },
    get("/v1/keys/current", Needs::Write, "Which key the request has, of any scope"),
    delete("/v1/keys/{id}", Needs::Admin, "Revokes a key"),
    Operation { query: SELECT, ..get("/v1/quarantine", Needs::Edit, "Records of quarantine") },
    Operation { query: SELECT, ..get("/v1/quarantine/count", Needs::Edit, "Counts records of quarantine") },
    post("/v1/quarantine/repair", Needs::Edit, "Tries or keeps repairs, and sends them", REPAIR),
    post("/v1/quarantine/replay", Needs::Edit, "Sends records of quarantine again", REPLAY),
    get("/v1/quarantine/{day}/{id}", Needs::Edit, "A record of quarantine with its bytes"),
    post("/v1/sessions", Needs::Nothing, "Signs in, by password or by a link", SIGN_IN),
    get("/v1/sessions/current", Needs::Nothing, "Who is signed in, if anybody"),
    delete("/v1/sessions/current", Needs::Nothing, "Signs out"),
    get("/v1/members", Needs::Admin, "All members"),
    Operation { status: 201, ..post("/v1/members", Needs::Admin, "Invites a member", INVITE) },
    Operation {
        method: "PUT",
        status: 204,
        content: &[],
        ..post("/v1/members/me/password", Needs::Session, "Sets another password", PASSWORD)
    },
    Operation { method: "PATCH", ..post("/v1/members/{id}", Needs::Admin, "Changes role or name", CHANGE) },
    delete("/v1/members/{id}", Needs::Admin, "Removes a member"),
    get("/v1/game/config", Needs::Nothing, "The public key of the game"),
    Operation { query: &["day"], ..get("/v1/game/ranking", Needs::Nothing, "The best plays of a day") },
    get("/v1/outbox", Needs::Admin, "The newest mails, where they are kept"),
    get("/v1/outbox/{id}", Needs::Admin, "A mail, where they are kept"),
];

/// The template that a path is of, as requests are counted; [`OTHER`] where there is none. A slash at the end changes nothing.
pub fn template(path: &str) -> &'static str {
    let fitting = OPERATIONS.iter().find(|operation| fits(operation.template, path));
    fitting.map_or(OTHER, |operation| operation.template)
}

/// The methods of a path, sorted; none where there is nothing.
pub(crate) fn methods(path: &str) -> BTreeSet<&'static str> {
    let template = template(path);
    OPERATIONS.iter().filter(|operation| operation.template == template).map(|operation| operation.method).collect()
}

fn fits(template: &str, path: &str) -> bool {
    let mut segments = path.trim_end_matches('/').split('/');
    let mut fits = |part: &str| {
        segments.next().is_some_and(|segment| part == segment || (part.starts_with('{') && !segment.is_empty()))
    };
    template.split('/').all(&mut fits) && segments.next().is_none()
}

/// The OpenAPI document.
pub(crate) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.template).or_insert_with(|| json!({}));
        path[operation.method.to_ascii_lowercase()] = describe(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Sluice", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A key of the scope that the call takes."},
                "session": {"type": "apiKey", "in": "cookie", "name": crate::sessions::COOKIE, "description": "A member who is signed in."},
            },
            "schemas": {
                "Error": {
                    "type": "object", "required": ["error"],
                    "properties": {"error": {
                        "type": "object", "required": ["code", "message"],
                        "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "field": {"type": "string"}},
                    }},
                },
                "Event": {
                    "type": "object", "required": ["type"],
                    "properties": {
                        "id": {"type": "string", "minLength": 1, "maxLength": 128},
                        "source": {"type": "string", "minLength": 1, "maxLength": 256},
                        "type": {"type": "string", "minLength": 1, "maxLength": 128},
                        "time": {"type": ["string", "number"]},
                        "subject": {"type": "string"}, "userid": {"type": ["string", "number"]}, "data": {},
                    },
                },
            },
        },
    })
}

fn describe(operation: &Operation) -> Value {
    let variable = |part: &str| part.strip_prefix('{').and_then(|part| part.strip_suffix('}')).map(str::to_owned);
    let parameter = |name: &str, place: &str, required: bool| json!({"name": name, "in": place, "required": required, "schema": {"type": "string"}});
    let in_path = operation.template.split('/').filter_map(variable).map(|name| parameter(&name, "path", true));
    let in_query = operation.query.iter().map(|name| parameter(name, "query", false));
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let security = match operation.needs {
        Needs::Nothing => json!([]),
        Needs::Write => json!([{"key": []}]),
        Needs::Session => json!([{"session": []}]),
        Needs::Read | Needs::Edit | Needs::Admin => json!([{"key": []}, {"session": []}]),
        Needs::ReadFromElsewhere => json!([{}, {"key": []}, {"session": []}]),
    };
    let mut good = json!({"description": "Done."});
    for content in operation.content {
        good["content"][content] = json!({"schema": {"type": if *content == JSON { "object" } else { "string" }}});
    }
    let refusal = |description: &str| {
        let content = json!({JSON: {"schema": {"$ref": "#/components/schemas/Error"}}});
        json!({"description": description, "content": content})
    };
    let mut described = json!({
        "summary": operation.summary,
        "security": security,
        "responses": {operation.status.to_string(): good, "4XX": refusal("Refused; says why."), "5XX": refusal("Not for the moment.")},
    });
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Ok(schema) = serde_json::from_str::<Value>(operation.body) {
        described["requestBody"] = json!({"required": true, "content": {JSON: {"schema": schema}}});
    }
    described
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_of_one_template() {
        for (path, expected) in [
            ("/v1/rules/five", "/v1/rules/{id}"),
            ("/v1/rules/five/", "/v1/rules/{id}"),
            ("/v1/quarantine/2026-11-21/abc", "/v1/quarantine/{day}/{id}"),
            ("/v1/quarantine/count", "/v1/quarantine/count"),
            ("/v1/members/me/password", "/v1/members/me/password"),
            ("/v1/queues/A/redrive", "/v1/queues/{name}/redrive"),
            ("/metrics", "/metrics"),
            ("/v1/metrics", OTHER),
            ("/v1/rules/a/b", OTHER),
            ("/v1/rules//", "/v1/rules"),
            ("/v1/", OTHER),
            ("v1/rules", OTHER),
            ("", OTHER),
        ] {
            assert_eq!(template(path), expected, "{path}");
        }
        assert_eq!(methods("/v1/rules/five").into_iter().collect::<Vec<_>>(), ["DELETE", "GET"]);
        assert!(methods("/v1/nothing").is_empty());
    }

    #[test]
    fn every_operation_stands_once_and_its_body_is_a_schema() {
        let mut seen = BTreeSet::new();
        for operation in OPERATIONS {
            assert!(seen.insert((operation.template, operation.method)), "{operation:?}");
            assert_eq!(template(operation.template), operation.template, "another template hides it");
            if !operation.body.is_empty() {
                assert!(serde_json::from_str::<Value>(operation.body).unwrap().is_object(), "{operation:?}");
            }
        }
    }

    #[test]
    fn the_document_names_all_that_there_is() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        for operation in OPERATIONS {
            let described = &document["paths"][operation.template][operation.method.to_ascii_lowercase()];
            assert_eq!(described["summary"], operation.summary);
            assert!(described["responses"][operation.status.to_string()].is_object());
            assert_eq!(described.get("requestBody").is_some(), !operation.body.is_empty());
        }
        let record = &document["paths"]["/v1/quarantine/{day}/{id}"]["get"]["parameters"];
        let names: Vec<&Value> = record.as_array().unwrap().iter().map(|parameter| &parameter["name"]).collect();
        assert_eq!(names, ["day", "id"]);
    }
}
