//! The web application: its files, from this program itself.
//!
//! Paths that no route of the template has and that have no file are pages of the application, where a browser asks for one.

use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::{Embed, EmbeddedFile};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{LazyLock, Mutex, PoisonError};

/// What `npm run build` makes in `web/`; without it this program has no pages.
#[derive(Embed)]
#[folder = "../web/dist"]
#[allow_missing = true]
struct Files;

/// The page that every path of the application begins with.
const START: &str = "index.html";
/// Files whose names change with their content.
const HASHED: &str = "assets/";
/// Files that pages of other sites load: the module by which they send events.
const FOR_OTHERS: &str = "sdk/";
/// What pages may load and do: nothing from elsewhere, no inline script, no frame around them.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; \
     object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'";
/// Smaller files are not worth compressing.
const COMPRESSED_FROM: usize = 1_024;

static COMPRESSED: LazyLock<Mutex<HashMap<String, Bytes>>> = LazyLock::new(Mutex::default);

/// The reply to a request that no route takes; `None` where it is not for the application either.
pub fn answer(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let named = path.trim_start_matches('/');
    let (name, file) = match Files::get(named) {
        Some(file) => (named, file),
        None if wants_page(headers) && !named.contains('.') => match Files::get(START) {
            Some(file) => (START, file),
            None => return named.is_empty().then(without_application),
        },
        None => return None,
    };
    Some(reply(name, file, headers))
}

fn wants_page(headers: &HeaderMap) -> bool {
    names(headers, header::ACCEPT, "text/html")
}

/// Whether a header of the request has this among what it lists.
fn names(headers: &HeaderMap, header: header::HeaderName, what: &str) -> bool {
    let lists = headers.get_all(header);
    let mut items = lists.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    items.any(|item| item.split(';').next().is_some_and(|item| item.trim().eq_ignore_ascii_case(what)))
}

fn reply(name: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
    let mime = file.metadata.mimetype();
    let is_text = mime.starts_with("text/") || mime.ends_with("json") || mime.ends_with("xml");
    let tag = file.metadata.sha256_hash()[..16].iter().fold(String::new(), |mut tag, byte| {
        let _ = write!(tag, "{byte:02x}");
        tag
    });
    let tag = format!("\"{tag}\"");
    let caching = if name.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = Response::builder();
    if name.starts_with(FOR_OTHERS) {
        response = response.header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    }
    let response = response
        .header(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::REFERRER_POLICY, "no-referrer")
        .header("cross-origin-opener-policy", "same-origin")
        .header(header::CACHE_CONTROL, caching)
        .header(header::VARY, "accept-encoding")
        .header(header::ETAG, &tag);
    if names(headers, header::IF_NONE_MATCH, &tag) {
        return response.status(StatusCode::NOT_MODIFIED).body(Body::empty()).unwrap_or_default();
    }
    let response =
        response.header(header::CONTENT_TYPE, if is_text { format!("{mime}; charset=utf-8") } else { mime.to_owned() });
    let bytes = match file.data {
        std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
    };
    let is_worth_it = is_text && bytes.len() >= COMPRESSED_FROM && names(headers, header::ACCEPT_ENCODING, "gzip");
    match is_worth_it.then(|| compressed(name, &bytes)).flatten() {
        Some(smaller) => response.header(header::CONTENT_ENCODING, "gzip").body(Body::from(smaller)),
        None => response.body(Body::from(bytes)),
    }
    .unwrap_or_default()
}

/// A file as gzip, made once.
fn compressed(name: &str, bytes: &[u8]) -> Option<Bytes> {
    if let Some(made) = COMPRESSED.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
        return Some(made.clone());
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    let made = Bytes::from(encoder.finish().ok()?);
    COMPRESSED.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), made.clone());
    Some(made)
}

fn without_application() -> Response {
    Response::builder()
        .status(StatusCode::NOT_FOUND)
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .body(Body::from("This program was built without the web application. `make run` builds it with it.\n"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(header::HeaderName, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn file(text: &str) -> EmbeddedFile {
        let metadata = rust_embed::Metadata::__rust_embed_new([7; 32], None, None, "text/javascript");
        EmbeddedFile { data: text.to_owned().into_bytes().into(), metadata }
    }

    #[test]
    fn only_browsers_that_ask_for_a_page_get_one() {
        let browser = headers(&[(header::ACCEPT, "text/html,application/xhtml+xml;q=0.9")]);
        assert!(wants_page(&browser));
        for accept in ["*/*", "application/json", "text/htmlx"] {
            assert!(!wants_page(&headers(&[(header::ACCEPT, accept)])), "{accept}");
        }
        assert!(answer(&Method::POST, "/", &browser).is_none());
        assert!(answer(&Method::GET, "/no-such-file.js", &browser).is_none());
        assert!(answer(&Method::GET, "/monitor", &HeaderMap::new()).is_none(), "nobody asks for a page");
        assert!(
            answer(&Method::GET, "/", &browser).is_some(),
            "the application, or a sentence that says that it is not there"
        );
    }

    #[test]
    fn on_aws_pages_have_the_same_headers() {
        let template = include_str!("../../../template.yaml");
        let reply = reply("index.html", file("1"), &HeaderMap::new());
        let own = |name: &str| reply.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(own("x-content-type-options"), "nosniff", "which CloudFront's `ContentTypeOptions` sends");
        for expected in [
            format!("            ContentSecurityPolicy: \"{}\"\n", own("content-security-policy")),
            "          ContentTypeOptions: { Override: true }\n".to_owned(),
            format!("          ReferrerPolicy: {{ Override: true, ReferrerPolicy: {} }}\n", own("referrer-policy")),
            format!(
                "- {{ Header: cross-origin-opener-policy, Value: {}, Override: true }}\n",
                own("cross-origin-opener-policy")
            ),
        ] {
            assert!(template.contains(&expected), "{expected}");
        }
    }

    #[test]
    fn a_file_is_guarded_cached_and_compressed() {
        let text = "let n = 1;\n".repeat(500);
        let plain = reply("assets/a.js", file(&text), &HeaderMap::new());
        assert_eq!(plain.headers()[header::CONTENT_SECURITY_POLICY], CONTENT_SECURITY_POLICY);
        assert_eq!(plain.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
        assert_eq!(plain.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
        let tag = plain.headers()[header::ETAG].to_str().unwrap().to_owned();
        let known = reply("index.html", file(&text), &headers(&[(header::IF_NONE_MATCH, &tag)]));
        assert_eq!(
            (known.status(), &known.headers()[header::CACHE_CONTROL]),
            (StatusCode::NOT_MODIFIED, &"no-cache".parse().unwrap())
        );
        let gzip = headers(&[(header::ACCEPT_ENCODING, "br, gzip;q=0.8")]);
        let packed = reply("assets/a.js", file(&text), &gzip);
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
        let module = reply("sdk/sluice.js", file("1"), &HeaderMap::new());
        assert_eq!(module.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!packed.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
        let small = reply("assets/b.js", file("1"), &gzip);
        assert!(!small.headers().contains_key(header::CONTENT_ENCODING));
    }
}
