//! Objects in a bucket.

use crate::failure::failed;
use crate::{Connection, Resource};
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use sluice_ports::{ErrorKind, ObjectMeta, Objects, PortError, PutMode};
use std::ops::Range;
use std::time::Duration;

/// Objects above this many bytes are put in parts, so that a lost connection costs one part and parts travel side by side.
const WHOLE_BYTES: usize = 16 * 1_024 * 1_024;
/// Bytes of a part; S3 takes 5 MiB at least.
const PART_BYTES: usize = 8 * 1_024 * 1_024;
/// Parts under way at once.
const PARTS_AT_ONCE: usize = 4;
/// Most keys in a listing's page.
const PAGE: i32 = 1_000;
/// Bytes of one part of a key between slashes, which is what a file system takes.
const SEGMENT_BYTES: usize = 255;
/// Metadata that names the put that wrote an object, so that a put whose reply was lost knows its own object again.
const PUT: &str = "sluice-put";
/// Attempts at a conditional put while another one for the same key is under way (409).
const CONTESTED_ATTEMPTS: u32 = 5;

/// A bucket.
#[derive(Debug, Clone)]
pub struct S3Objects {
    client: Client,
    bucket: Resource,
}

impl S3Objects {
    /// The objects of a bucket.
    pub fn new(connection: &Connection, bucket: Resource) -> Self {
        let sdk = connection.sdk();
        // Emulators answer under one host name.
        let config = Builder::from(sdk).force_path_style(sdk.endpoint_url().is_some()).build();
        Self { client: Client::from_conf(config), bucket }
    }

    async fn put_whole(&self, put: &Put<'_>) -> Result<(), PortError> {
        let mut request = self
            .client
            .put_object()
            .bucket(&self.bucket.name)
            .key(put.key)
            .metadata(PUT, &put.id)
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .body(ByteStream::from(put.bytes.clone()));
        if put.mode == PutMode::IfAbsent {
            request = request.if_none_match("*");
        }
        request.send().await.map_err(|error| failed(PUT_OPERATION, &self.bucket, error))?;
        Ok(())
    }

    async fn put_in_parts(&self, put: &Put<'_>) -> Result<(), PortError> {
        let created = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket.name)
            .key(put.key)
            .metadata(PUT, &put.id)
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .send()
            .await
            .map_err(|error| failed(PUT_OPERATION, &self.bucket, error))?;
        let upload = created.upload_id().ok_or_else(|| {
            PortError::new(ErrorKind::Timeout, PUT_OPERATION, format!("{}: there is no upload id", self.bucket))
        })?;
        let result = self.put_parts(put, upload).await;
        if result.is_err() {
            let abort = self.client.abort_multipart_upload().bucket(&self.bucket.name).key(put.key).upload_id(upload);
            if let Err(error) = abort.send().await {
                // The bucket's lifecycle rule for unfinished uploads takes it away.
                tracing::debug!(error = %failed(PUT_OPERATION, &self.bucket, error), "an upload was left unfinished");
            }
        }
        result
    }

    async fn put_parts(&self, put: &Put<'_>, upload: &str) -> Result<(), PortError> {
        let bytes = put.bytes;
        let starts = (0..bytes.len()).step_by(PART_BYTES).zip(1_i32..);
        let parts = futures::stream::iter(starts.map(|(start, number)| async move {
            let part = bytes.slice(start..bytes.len().min(start + PART_BYTES));
            let sent = self
                .client
                .upload_part()
                .bucket(&self.bucket.name)
                .key(put.key)
                .upload_id(upload)
                .part_number(number)
                .checksum_algorithm(ChecksumAlgorithm::Crc32)
                .body(ByteStream::from(part))
                .send()
                .await
                .map_err(|error| failed(PUT_OPERATION, &self.bucket, error))?;
            Ok::<_, PortError>(
                CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(sent.e_tag().map(str::to_owned))
                    .set_checksum_crc32(sent.checksum_crc32().map(str::to_owned))
                    .build(),
            )
        }));
        let parts: Vec<CompletedPart> = parts.buffered(PARTS_AT_ONCE).try_collect().await?;
        let mut complete = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket.name)
            .key(put.key)
            .upload_id(upload)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build());
        if put.mode == PutMode::IfAbsent {
            complete = complete.if_none_match("*");
        }
        complete.send().await.map_err(|error| failed(PUT_OPERATION, &self.bucket, error))?;
        Ok(())
    }

    /// Whether the object that is there was written by this very put, whose reply was lost.
    async fn is_own(&self, put: &Put<'_>) -> bool {
        let head = self.head(put.key).await;
        head.is_ok_and(|head| head.metadata().and_then(|m| m.get(PUT)).is_some_and(|found| *found == put.id))
    }

    async fn head(&self, key: &str) -> Result<HeadObjectOutput, PortError> {
        let head = self.client.head_object().bucket(&self.bucket.name).key(key).send().await;
        head.map_err(|error| self.at(GET, key, failed(GET, &self.bucket, error)))
    }

    /// Names the key, where it and not the bucket is what is missing.
    fn at(&self, operation: &'static str, key: &str, error: PortError) -> PortError {
        if error.kind == ErrorKind::NotFound && !error.detail.contains("NoSuchBucket") {
            return PortError::new(ErrorKind::NotFound, operation, format!("`{key}` is not in {}", self.bucket));
        }
        error
    }
}

/// One put.
struct Put<'a> {
    key: &'a str,
    bytes: &'a Bytes,
    mode: PutMode,
    id: String,
}

const PUT_OPERATION: &str = "objects.put";
const GET: &str = "objects.get";
const LIST: &str = "objects.list";
const DELETE: &str = "objects.delete";

#[async_trait]
impl Objects for S3Objects {
    async fn put(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<(), PortError> {
        check_key(PUT_OPERATION, key)?;
        let put = Put { key, bytes: &bytes, mode, id: uuid::Uuid::now_v7().to_string() };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let result =
                if bytes.len() <= WHOLE_BYTES { self.put_whole(&put).await } else { self.put_in_parts(&put).await };
            let Err(error) = &result else { return result };
            // What is said of a call that is sent again after its reply was lost: the key is taken, or the upload is over.
            if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) && self.is_own(&put).await {
                return Ok(());
            }
            let contested = error.kind == ErrorKind::Throttled && error.detail.contains("ConditionalRequestConflict");
            if !contested || attempt >= CONTESTED_ATTEMPTS {
                return result;
            }
            tokio::time::sleep(Duration::from_millis(20) * attempt).await;
        }
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, PortError> {
        check_key(GET, key)?;
        let mut request = self.client.get_object().bucket(&self.bucket.name).key(key);
        if let Some(range) = range {
            if range.is_empty() {
                return self.head(key).await.map(|_| Bytes::new());
            }
            request = request.range(match range.end {
                u64::MAX => format!("bytes={}-", range.start),
                end => format!("bytes={}-{}", range.start, end - 1),
            });
        }
        let found = match request.send().await {
            Ok(found) => found,
            // The range begins behind the object's end.
            Err(SdkError::ServiceError(error)) if error.raw().status().as_u16() == 416 => return Ok(Bytes::new()),
            Err(error) => return Err(self.at(GET, key, failed(GET, &self.bucket, error))),
        };
        let body = found.body.collect().await;
        let body = body.map_err(|_| {
            PortError::new(ErrorKind::Unavailable, GET, format!("{}: `{key}` broke off while it was read", self.bucket))
        })?;
        Ok(body.into_bytes())
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, PortError> {
        let mut found = Vec::new();
        let mut after = after.map(str::to_owned);
        while found.len() < limit {
            let page = self
                .client
                .list_objects_v2()
                .bucket(&self.bucket.name)
                .prefix(prefix)
                .set_start_after(after.take())
                .max_keys(i32::try_from(limit - found.len()).unwrap_or(PAGE).min(PAGE))
                .send()
                .await
                .map_err(|error| failed(LIST, &self.bucket, error))?;
            found.extend(page.contents().iter().filter_map(|object| {
                Some(ObjectMeta {
                    key: object.key()?.to_owned(),
                    size_bytes: u64::try_from(object.size().unwrap_or(0)).unwrap_or(0),
                    modified_ms: object.last_modified().and_then(|time| time.to_millis().ok()).unwrap_or(0),
                })
            }));
            if page.is_truncated() != Some(true) {
                break;
            }
            after = found.last().map(|object| object.key.clone());
        }
        Ok(found)
    }

    async fn delete(&self, key: &str) -> Result<(), PortError> {
        check_key(DELETE, key)?;
        let deleted = self.client.delete_object().bucket(&self.bucket.name).key(key).send().await;
        deleted.map_err(|error| failed(DELETE, &self.bucket, error))?;
        Ok(())
    }
}

/// Refuses keys that would not be the same thing on a file system.
fn check_key(operation: &'static str, key: &str) -> Result<(), PortError> {
    let fits = |segment: &str| {
        !matches!(segment, "" | "." | "..") && segment.len() <= SEGMENT_BYTES && !segment.contains('\0')
    };
    if key.split('/').all(fits) {
        return Ok(());
    }
    Err(PortError::new(ErrorKind::Invalid, operation, format!("`{}` is no key", key.escape_debug())))
}
