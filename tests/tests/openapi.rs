//! What the server says of itself in `/openapi.json` holds of what it answers: schemathesis asks every call in many ways, also wrong ones, as
//! an admin, as a reader and as nobody.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panic")]

use sluice_tests::{Server, sluice_text, tool};

/// No 5xx; status, content type and body as the document says; what it forbids is refused, and what needs a key is closed without one.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
    negative_data_rejection,ignored_auth,unsupported_method,allow_header_conformance,missing_required_header";
/// Random requests of each call, beside those that each schema's edges give.
const EXAMPLES: &str = "5";

#[test]
fn every_call_answers_as_the_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data).unwrap();
    let reader = sluice_text(&data, &["keys", "add", "--scope", "read"]).unwrap();
    let reader = reader.trim().to_owned();
    let (_, document) = server.get("/openapi.json").unwrap();
    let calls = document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len());
    // It does not ask for the document again.
    let calls = calls.sum::<usize>() - 1;
    for (who, key) in [("an admin", Some(&server.key)), ("a reader", Some(&reader)), ("nobody", None)] {
        let Some(mut schemathesis) = tool("schemathesis").unwrap() else { return };
        // It keeps what it found in the folder that it is started in.
        schemathesis.current_dir(folder.path()).args(["--no-color", "run", &format!("{}/openapi.json", server.url)]);
        schemathesis.args(["--checks", CHECKS, "--phases", "coverage,fuzzing", "--max-examples", EXAMPLES]);
        schemathesis.args(["--seed", "7", "--no-shrink", "--continue-on-failure", "--warnings", "off"]);
        if let Some(key) = key {
            schemathesis.args(["--header", &format!("Authorization: Bearer {key}")]);
        }
        let output = schemathesis.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "as {who}: {said}");
        assert!(said.contains(&format!("Tested: {calls}\n")), "as {who} not all of {calls} calls: {said}");
    }
    server.settle().unwrap();
}
