//! One column of a row group as the pages of a column chunk.
//!
//! The Parquet crate's own writer looks every value of a column up among those before it and compares it with the least and the greatest.
//! Lanes know most of that already.

use crate::bounds::Statistics;
use crate::dense::{Dense, Plain};
use crate::lane::{Lane, Lists, Values};
use crate::plan::Spec;
use crate::rle;
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType, ZstdLevel};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use std::cell::RefCell;
use std::ops::Range;

/// Most rows of a page, as in the Parquet crate.
const PAGE_ROWS: usize = 20_000;
/// Values or text after which a page is full, as in the Parquet crate.
const PAGE_BYTES: usize = 1 << 20;
/// A chunk below this stays as it is: the codec's frame alone takes a dozen bytes of each page.
const LEAST_COMPRESSED_BYTES: usize = 64;
/// How often a bloom filter may say yes to what is not there.
const FALSE_POSITIVES: f64 = 0.05;

/// What a page is made of, as places among levels and values.
struct Span {
    rows: usize,
    levels: Range<usize>,
    values: Range<usize>,
}

/// The values of a column that are there, and where in the rows they stand.
struct Leaf<'l> {
    levels: Levels,
    values: Dense<'l>,
    pages: Vec<Span>,
}

/// What the format keeps for what is not there.
enum Levels {
    /// Nothing: the column is required.
    Required,
    /// All rows have a value, or none has.
    All { present: bool },
    /// For each row whether it has a value (1).
    Some(Vec<u8>),
    /// For each element, and for each list without elements: whether it goes on with a list (1), and what there is (0 no list, 1 no
    /// element, 2 null, 3 a value).
    Lists { repetition: Vec<u8>, definition: Vec<u8> },
}

/// The bytes of a column chunk of some rows, in their order, and what the file says of it.
pub(crate) fn encode(
    lane: &Lane,
    rows: &[u32],
    spec: Spec,
    column: &ColumnDescPtr,
) -> Result<(Bytes, ColumnCloseResult)> {
    let leaf = Leaf::new(lane, rows, spec, column);
    let dictionary = match &leaf.values {
        Dense::Coded { distinct, .. } => Some(distinct),
        Dense::Plain(_) => None,
    };
    let mut raw: Vec<Vec<u8>> = Vec::with_capacity(leaf.pages.len() + 1);
    raw.extend(dictionary.map(|distinct| {
        let mut page = Vec::new();
        distinct.write(&mut page, 0..distinct.len(), column);
        page
    }));
    raw.extend(leaf.pages.iter().map(|span| {
        let mut page = Vec::new();
        leaf.levels.write(&mut page, span.levels.clone());
        leaf.values.write(&mut page, span.values.clone(), column);
        page
    }));
    let sizes: Vec<usize> = raw.iter().map(Vec::len).collect();
    let (codec, pages) = compress(raw)?;
    let mut pages = sizes.into_iter().zip(pages.into_iter().map(Bytes::from));

    let mut sink = TrackedWrite::new(Vec::new());
    let mut writer = SerializedPageWriter::new(&mut sink);
    let mut metadata = ColumnChunkMetaData::builder(column.clone()).set_compression(codec);
    let mut sum = 0;
    if let Some((distinct, (size, buf))) = dictionary.and_then(|distinct| Some((distinct, pages.next()?))) {
        let num_values = u32::try_from(distinct.len())?;
        let page = Page::DictionaryPage { buf, num_values, encoding: Encoding::PLAIN, is_sorted: false };
        let written = writer.write_page(CompressedPage::new(page, size))?;
        sum += written.uncompressed_size;
        metadata = metadata.set_dictionary_page_offset(Some(i64::try_from(written.offset)?));
    }
    let encoding = if dictionary.is_some() { Encoding::RLE_DICTIONARY } else { Encoding::PLAIN };
    let mut statistics = Statistics::new(column, spec.is_indexed);
    let mut offsets = OffsetIndexBuilder::new();
    for (i, (span, (size, buf))) in leaf.pages.iter().zip(pages).enumerate() {
        let page = Page::DataPage {
            buf,
            num_values: u32::try_from(span.levels.len())?,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let written = writer.write_page(CompressedPage::new(page, size))?;
        sum += written.uncompressed_size;
        if i == 0 {
            metadata = metadata.set_data_page_offset(i64::try_from(written.offset)?);
        }
        offsets.append_row_count(i64::try_from(span.rows)?);
        offsets.append_offset_and_size(i64::try_from(written.offset)?, i32::try_from(written.compressed_size)?);
        statistics.add_page(leaf.values.bounds(span.values.clone()), span.levels.len() - span.values.len())?;
    }
    writer.close()?;
    let bytes = Bytes::from(sink.into_inner()?);

    let (statistics, column_index) = statistics.finish()?;
    let page = |page_type, encoding, count: usize| -> Result<PageEncodingStats> {
        Ok(PageEncodingStats { page_type, encoding, count: i32::try_from(count)? })
    };
    let mut encodings = vec![Encoding::RLE, encoding];
    let mut kinds = vec![page(PageType::DATA_PAGE, encoding, leaf.pages.len())?];
    if dictionary.is_some() {
        encodings.push(Encoding::PLAIN);
        kinds.insert(0, page(PageType::DICTIONARY_PAGE, Encoding::PLAIN, 1)?);
    }
    let metadata = metadata
        .set_encodings(encodings)
        .set_page_encoding_stats(kinds)
        .set_total_compressed_size(i64::try_from(bytes.len())?)
        .set_total_uncompressed_size(i64::try_from(sum)?)
        .set_num_values(leaf.pages.iter().map(|span| span.levels.len() as i64).sum())
        .set_statistics(statistics)
        .build()?;
    let close = ColumnCloseResult {
        bytes_written: bytes.len() as u64,
        rows_written: rows.len() as u64,
        metadata,
        bloom_filter: if spec.bloom { leaf.bloom_filter(column)? } else { None },
        column_index,
        offset_index: Some(offsets.build()),
    };
    Ok((bytes, close))
}

impl<'l> Leaf<'l> {
    fn new(lane: &'l Lane, rows: &[u32], spec: Spec, column: &ColumnDescPtr) -> Self {
        if let Values::List(lists) = &lane.values {
            return Self::of_lists(lane, lists, rows, spec);
        }
        let present = match () {
            () if lane.rows() == 0 => Some(Vec::new()),
            () if lane.is_dense(rows) => None,
            () => Some(rows.iter().filter(|row| lane.has(**row as usize)).copied().collect::<Vec<u32>>()),
        };
        let there = present.as_deref().unwrap_or(rows);
        let values = Dense::new(lane, there, spec.repeats);
        let levels = if column.max_def_level() == 0 {
            Levels::Required
        } else if there.len() == rows.len() || there.is_empty() {
            Levels::All { present: !there.is_empty() }
        } else {
            Levels::Some(rows.iter().map(|row| u8::from(lane.has(*row as usize))).collect())
        };
        let has = |i: usize| match &levels {
            Levels::Some(has) => usize::from(has[i]),
            _ => usize::from(!there.is_empty()),
        };
        let pages = spans(rows.len(), rows.len(), &values, |i| (1, has(i)));
        Self { levels, values, pages }
    }

    fn of_lists(lane: &'l Lane, lists: &'l Lists, rows: &[u32], spec: Spec) -> Self {
        let (mut repetition, mut definition, mut there) = (Vec::new(), Vec::new(), Vec::new());
        let mut sizes: Vec<(usize, usize)> = Vec::with_capacity(rows.len());
        for row in rows {
            let row = *row as usize;
            let before = (definition.len(), there.len());
            let elements = if lane.has(row) { Some(lists.elements_of(row)) } else { None };
            match elements {
                None => definition.push(0),
                Some(elements) if elements.is_empty() => definition.push(1),
                Some(elements) => {
                    for element in elements {
                        let has = lists.elements.has(element as usize);
                        definition.push(2 + u8::from(has));
                        if has {
                            there.push(element);
                        }
                    }
                }
            }
            repetition.push(0);
            repetition.resize(definition.len(), 1);
            sizes.push((definition.len() - before.0, there.len() - before.1));
        }
        let values = Dense::new(&lists.elements, &there, spec.repeats);
        let pages = spans(rows.len(), definition.len(), &values, |i| sizes[i]);
        Self { levels: Levels::Lists { repetition, definition }, values, pages }
    }

    fn bloom_filter(&self, column: &ColumnDescPtr) -> Result<Option<Sbbf>> {
        let values = match &self.values {
            Dense::Coded { distinct, .. } => distinct,
            Dense::Plain(values) => values,
        };
        let mut filter = Sbbf::new_with_ndv_fpp(values.len().max(1) as u64, FALSE_POSITIVES)?;
        match values {
            Plain::Texts(texts) => texts.iter().for_each(|text| filter.insert(*text)),
            _ => {
                let mut bytes = Vec::new();
                for i in 0..values.len() {
                    bytes.clear();
                    values.get(i).write(&mut bytes, column);
                    filter.insert(bytes.as_slice());
                }
            }
        }
        Ok(Some(filter))
    }
}

/// Cuts rows with so many `levels` in all into pages; `sizes` answers how many levels and how many values a row has.
fn spans(rows: usize, levels: usize, values: &Dense<'_>, sizes: impl Fn(usize) -> (usize, usize)) -> Vec<Span> {
    if rows <= PAGE_ROWS && values.size_bytes() < PAGE_BYTES {
        return vec![Span { rows, levels: 0..levels, values: 0..values.len() }];
    }
    let mut pages = Vec::new();
    let mut page = Span { rows: 0, levels: 0..0, values: 0..0 };
    let mut bytes = 0;
    for row in 0..rows {
        let (levels, present) = sizes(row);
        page.rows += 1;
        page.levels.end += levels;
        let from = page.values.end;
        page.values.end += present;
        bytes += (from..page.values.end).map(|i| values.value_bytes(i)).sum::<usize>();
        if page.rows == PAGE_ROWS || bytes >= PAGE_BYTES || row + 1 == rows {
            let (levels, values) = (page.levels.end, page.values.end);
            pages.push(std::mem::replace(&mut page, Span { rows: 0, levels: levels..levels, values: values..values }));
            bytes = 0;
        }
    }
    pages
}

impl Levels {
    /// Appends the levels of a page, each kind of them after its length.
    fn write(&self, out: &mut Vec<u8>, range: Range<usize>) {
        let mut framed = |write: &dyn Fn(&mut Vec<u8>)| {
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            write(out);
            // A page has at most as many rows as it may have, and a list at most as many elements as a message.
            let length = (out.len() - start - 4) as u32;
            out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        };
        match self {
            Self::Required => {}
            Self::All { present } => framed(&|out| rle::encode_run(out, u8::from(*present), range.len(), 1)),
            Self::Some(present) => framed(&|out| rle::encode(out, &present[range.clone()], 1)),
            Self::Lists { repetition, definition } => {
                framed(&|out| rle::encode(out, &repetition[range.clone()], 1));
                framed(&|out| rle::encode(out, &definition[range.clone()], 2));
            }
        }
    }
}

/// What each thread keeps for compressing: making a context costs more than compressing a small page, and room for the worst case is mostly
/// not needed.
struct Compressor {
    context: zstd::bulk::Compressor<'static>,
    room: Vec<u8>,
}

impl Compressor {
    fn compress(&mut self, page: &[u8]) -> std::io::Result<Vec<u8>> {
        let bound = zstd::zstd_safe::compress_bound(page.len());
        if self.room.len() < bound {
            self.room.resize(bound, 0);
        }
        let size = self.context.compress_to_buffer(page, self.room.as_mut_slice())?;
        let packed = self.room[..size].to_vec();
        // A page larger than usual holds one large text.
        self.room.truncate(2 * PAGE_BYTES);
        self.room.shrink_to(2 * PAGE_BYTES);
        Ok(packed)
    }
}

/// Compresses the pages of a chunk, where that makes it smaller.
fn compress(pages: Vec<Vec<u8>>) -> Result<(Compression, Vec<Vec<u8>>)> {
    thread_local! {
        static COMPRESSOR: RefCell<Option<Compressor>> = const { RefCell::new(None) };
    }
    let size = |pages: &[Vec<u8>]| pages.iter().map(Vec::len).sum::<usize>();
    if size(&pages) < LEAST_COMPRESSED_BYTES {
        return Ok((Compression::UNCOMPRESSED, pages));
    }
    let compressed = COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => kept.insert(Compressor { context: zstd::bulk::Compressor::new(1)?, room: Vec::new() }),
        };
        pages.iter().map(|page| compressor.compress(page)).collect::<std::io::Result<Vec<_>>>()
    })?;
    // A reader that has nothing to unpack is faster.
    if size(&compressed) * 20 > size(&pages) * 19 {
        return Ok((Compression::UNCOMPRESSED, pages));
    }
    Ok((Compression::ZSTD(ZstdLevel::default()), compressed))
}
