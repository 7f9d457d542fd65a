//! HTTP/1.1 requests as the servers of these tests read them.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// `POST`
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Names as they came, and values.
    pub headers: Vec<(String, String)>,
    /// The body, taken out of its chunks.
    pub body: Vec<u8>,
}

impl Request {
    /// Reads the next request of a connection; `None` at its end.
    pub fn read(reader: &mut BufReader<TcpStream>, writer: &mut TcpStream) -> Option<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let mut words = lines.first()?.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let header =
            |line: &String| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        let headers = lines.iter().skip(1).filter_map(header).collect();
        let mut request = Self { method, path, headers, body: Vec::new() };
        if request.header("expect").is_some() {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        if request.header("transfer-encoding").is_some() {
            request.body = read_chunks(reader)?;
        } else {
            let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            request.body = vec![0; length];
            reader.read_exact(&mut request.body).ok()?;
        }
        Some(request)
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The request as bytes, on a connection that is closed after it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        let own = ["connection", "content-length", "transfer-encoding", "expect"];
        for (name, value) in
            self.headers.iter().filter(|(name, _)| !own.iter().any(|own| name.eq_ignore_ascii_case(own)))
        {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("connection: close\r\ncontent-length: {}\r\n\r\n", self.body.len()));
        [head.as_bytes(), &self.body].concat()
    }
}

fn read_chunks(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let mut chunk = vec![0; usize::from_str_radix(size.trim(), 16).ok()? + 2];
        reader.read_exact(&mut chunk).ok()?;
        if chunk.len() == 2 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..chunk.len() - 2]);
    }
}
