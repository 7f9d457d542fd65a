//! Which server a command talks to, and with which key.

use crate::cli::Global;
use crate::cli::exit::{Exit, Failure};
use crate::client::Client;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// File in the data folder in which a running server says where it listens.
pub const SERVER_FILE: &str = "server.json";
/// File in the data folder with the admin key.
pub const KEY_FILE: &str = "admin.key";

#[derive(serde::Deserialize)]
struct Server {
    url: String,
}

/// The server: `--url` and `--key` where given, else the one that runs on the data folder.
pub fn connect(global: &Global) -> Result<Client, Failure> {
    let (url, key) = resolve(global)?;
    Client::new(&url, &key, absent(&global.data, global.url.is_none()))
}

fn resolve(global: &Global) -> Result<(String, String), Failure> {
    match (&global.url, &global.key) {
        (Some(url), Some(key)) => Ok((url.clone(), key.clone())),
        (None, key) => {
            let url = running(&global.data)?.ok_or_else(|| Failure::new(Exit::Unreachable, no_server(&global.data)))?;
            let key = key.clone().map_or_else(|| admin_key(&global.data), Ok)?;
            Ok((url, key))
        }
        // The admin key of the folder goes only to the server of that folder.
        (Some(url), None) => match running(&global.data) {
            Ok(Some(own)) if own.trim_end_matches('/') == url.trim_end_matches('/') => {
                Ok((url.clone(), admin_key(&global.data)?))
            }
            _ => Err(Failure::usage(format!(
                "`{url}` is not the server of `{}`: give its key with `--key` or SLUICE_KEY",
                global.data.display()
            ))),
        },
    }
}

/// What to say when nothing answers.
fn absent(data: &Path, found_by_folder: bool) -> Option<String> {
    found_by_folder.then(|| no_server(data))
}

fn no_server(data: &Path) -> String {
    let up = if data == Path::new(super::DEFAULT_DATA) {
        "sluice up".to_owned()
    } else {
        format!("sluice up --data {}", data.display())
    };
    format!("no server is running on `{}`: start one with `{up}`", data.display())
}

/// The address that the folder's server wrote down, if any.
fn running(data: &Path) -> Result<Option<String>, Failure> {
    let path = data.join(SERVER_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(Failure::new(Exit::Failed, format!("cannot read `{}`: {e}", path.display()))),
    };
    let server: Server = serde_json::from_str(&text).map_err(|e| {
        Failure::new(Exit::Failed, format!("`{}` does not say where the server listens: {e}", path.display()))
    })?;
    Ok(Some(server.url))
}

fn admin_key(data: &Path) -> Result<String, Failure> {
    let path = data.join(KEY_FILE);
    let text = fs::read_to_string(&path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => {
            Failure::usage(format!("`{}` is not there: give a key with `--key` or SLUICE_KEY", path.display()))
        }
        ErrorKind::PermissionDenied => Failure::new(
            Exit::Refused,
            format!(
                "`{}` belongs to another user: ask for a key of your own, then give it with `--key` or SLUICE_KEY",
                path.display()
            ),
        ),
        _ => Failure::new(Exit::Failed, format!("cannot read `{}`: {e}", path.display())),
    })?;
    match text.trim() {
        "" => Err(Failure::new(Exit::Failed, format!("`{}` is empty", path.display()))),
        key => Ok(key.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(data: &Path, url: Option<&str>, key: Option<&str>) -> Global {
        Global { data: data.to_owned(), url: url.map(str::to_owned), key: key.map(str::to_owned) }
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(SERVER_FILE), r#"{"url":"http://127.0.0.1:7070","pid":1}"#).unwrap();
        fs::write(folder.path().join(KEY_FILE), "secret\n").unwrap();
        folder
    }

    #[test]
    fn the_data_folder_names_the_server_and_its_admin_key() {
        let folder = folder();
        let found = resolve(&global(folder.path(), None, None)).unwrap();
        assert_eq!(found, ("http://127.0.0.1:7070".to_owned(), "secret".to_owned()));
        let found = resolve(&global(folder.path(), None, Some("mine"))).unwrap();
        assert_eq!(found.1, "mine");
    }

    #[test]
    fn the_admin_key_never_goes_to_another_server() {
        let folder = folder();
        let failure = resolve(&global(folder.path(), Some("https://example.com"), None)).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        let found = resolve(&global(folder.path(), Some("http://127.0.0.1:7070/"), None)).unwrap();
        assert_eq!(found.1, "secret");
    }

    #[test]
    fn a_folder_without_a_server_says_how_to_start_one() {
        let folder = tempfile::tempdir().unwrap();
        let failure = resolve(&global(folder.path(), None, None)).unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.to_string().contains("start one with `sluice up --data "), "{failure}");
        assert_eq!(no_server(Path::new(".sluice")), "no server is running on `.sluice`: start one with `sluice up`");
    }

    #[test]
    fn a_damaged_server_file_is_named() {
        let folder = folder();
        fs::write(folder.path().join(SERVER_FILE), "{").unwrap();
        let failure = resolve(&global(folder.path(), None, None)).unwrap_err();
        assert!(failure.to_string().contains("server.json"), "{failure}");
    }
}
