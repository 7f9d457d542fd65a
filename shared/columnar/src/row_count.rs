//! How many rows a file has by its own footer.

use crate::ParquetEncoder;
use bytes::Bytes;
use parquet::file::metadata::ParquetMetaDataReader;
use sluice_domain::lake::{EncodeError, RowCount};

impl RowCount for ParquetEncoder {
    fn rows(&self, bytes: &[u8]) -> Result<u64, EncodeError> {
        let fail = |what: String| EncodeError(what);
        let bytes = Bytes::copy_from_slice(bytes);
        let read = ParquetMetaDataReader::new().parse_and_finish(&bytes).map_err(|e| fail(e.to_string()))?;
        u64::try_from(read.file_metadata().num_rows()).map_err(|_| fail("its footer counts less than no rows".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_domain::event::{Event, Shared};
    use sluice_domain::json;
    use sluice_domain::lake::Encoder;
    use sluice_domain::schema::Schema;

    #[test]
    fn the_footer_says_how_many_rows_there_are_and_damage_is_an_error() {
        let schema = Schema::parse("w", r#"{"type":"object","x-type":"web.event"}"#).unwrap();
        let text = r#"{"id":"a","source":"s","type":"web.event","time":"2026-11-21T10:00:00Z"}"#;
        let event = || Event::read(json::parse_str(text).unwrap(), &Shared::default()).unwrap();
        let mut table = ParquetEncoder::new().table(&schema).unwrap();
        (0..3).for_each(|_| table.push(&event()).unwrap());
        let bytes = table.encode(&[0, 1, 2]).unwrap().bytes;
        assert_eq!(ParquetEncoder::new().rows(&bytes), Ok(3));
        for damaged in [&bytes[..bytes.len() - 1], &bytes[..4], b""] {
            assert!(ParquetEncoder::new().rows(damaged).is_err());
        }
    }
}
