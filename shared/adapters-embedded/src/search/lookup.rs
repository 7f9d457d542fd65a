//! Which documents are there already.
//!
//! A single look costs tens of microseconds: each dictionary on the way is read from the begin of a block. So all documents of a commit are
//! looked up together, in the order of each dictionary, and a block is read once for all that lie in it.

use super::document::Prepared;
use super::fields::{Fields, ID, INDEX};
use std::collections::HashSet;
use tantivy::columnar::StrColumn;
use tantivy::index::SegmentReader;
use tantivy::postings::TermInfo;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, InvertedIndexReader, Searcher, TERMINATED};

/// To look up one key costs about as much as to read this many in a row.
const KEYS_READ_PER_LOOK: usize = 100;

/// A document that may be there.
pub(super) struct Suspect<'a> {
    /// Names it to the caller.
    pub position: usize,
    pub document: &'a Prepared,
}

/// The positions of those documents that are in a committed segment.
pub(super) fn existing(
    searcher: &Searcher,
    fields: Fields,
    mut suspects: Vec<Suspect<'_>>,
) -> tantivy::Result<HashSet<usize>> {
    let mut found = HashSet::new();
    suspects.sort_unstable_by_key(|suspect| suspect.document.key);
    // What comes again mostly came last, and so lies in segments that are small yet.
    let mut segments: Vec<&SegmentReader> = searcher.segment_readers().iter().collect();
    segments.sort_unstable_by_key(|segment| segment.num_docs());
    for reader in segments {
        if suspects.is_empty() {
            break;
        }
        let before = found.len();
        found.extend(in_segment(reader, fields, &suspects)?);
        if found.len() > before {
            suspects.retain(|suspect| !found.contains(&suspect.position));
        }
    }
    Ok(found)
}

/// A document of the segment with the key of a suspect.
struct Hit<'a> {
    doc: DocId,
    suspect: &'a Suspect<'a>,
}

fn in_segment(reader: &SegmentReader, fields: Fields, suspects: &[Suspect<'_>]) -> tantivy::Result<Vec<usize>> {
    let keys = reader.inverted_index(fields.key)?;
    let mut hits = if suspects.len().saturating_mul(KEYS_READ_PER_LOOK) < keys.terms().num_terms() {
        by_looking(&keys, suspects)?
    } else {
        by_reading(&keys, suspects)?
    };
    // What was removed is there until its segment is merged.
    if let Some(alive) = reader.alive_bitset() {
        hits.retain(|hit| alive.is_alive(hit.doc));
    }
    // Equal keys are no proof.
    if !hits.is_empty()
        && let (Some(id), Some(index)) = (reader.fast_fields().str(ID)?, reader.fast_fields().str(INDEX)?)
    {
        hits = confirmed(hits, &id, |document| &document.id)?;
        hits = confirmed(hits, &index, |document| &document.index)?;
    }
    Ok(hits.into_iter().map(|hit| hit.suspect.position).collect())
}

/// Looks each key up.
fn by_looking<'a>(keys: &InvertedIndexReader, suspects: &'a [Suspect<'a>]) -> tantivy::Result<Vec<Hit<'a>>> {
    let mut hits = Vec::new();
    for suspect in suspects {
        if let Some(term) = keys.terms().get(suspect.document.key.to_be_bytes())? {
            collect(keys, &term, suspect, &mut hits)?;
        }
    }
    Ok(hits)
}

/// Reads all keys from the least to the greatest one that is looked for.
fn by_reading<'a>(keys: &InvertedIndexReader, suspects: &'a [Suspect<'a>]) -> tantivy::Result<Vec<Hit<'a>>> {
    let mut hits = Vec::new();
    let (Some(first), Some(last)) = (suspects.first(), suspects.last()) else { return Ok(hits) };
    let range = keys.terms().range().ge(first.document.key.to_be_bytes()).le(last.document.key.to_be_bytes());
    let mut there = range.into_stream()?;
    let mut wanted = suspects.iter().peekable();
    while there.advance() {
        let Ok(key) = there.key().try_into().map(u64::from_be_bytes) else { continue };
        while wanted.next_if(|suspect| suspect.document.key < key).is_some() {}
        while let Some(suspect) = wanted.next_if(|suspect| suspect.document.key == key) {
            collect(keys, there.value(), suspect, &mut hits)?;
        }
    }
    Ok(hits)
}

fn collect<'a>(
    keys: &InvertedIndexReader,
    term: &TermInfo,
    suspect: &'a Suspect<'a>,
    hits: &mut Vec<Hit<'a>>,
) -> tantivy::Result<()> {
    let mut postings = keys.read_postings_from_terminfo(term, IndexRecordOption::Basic)?;
    while postings.doc() != TERMINATED {
        hits.push(Hit { doc: postings.doc(), suspect });
        postings.advance();
    }
    Ok(())
}

/// Those hits whose text in a column is that of the document.
fn confirmed<'a>(
    hits: Vec<Hit<'a>>,
    column: &StrColumn,
    text: impl Fn(&'a Prepared) -> &'a str,
) -> tantivy::Result<Vec<Hit<'a>>> {
    let mut ordered: Vec<(u64, Hit<'a>)> = Vec::with_capacity(hits.len());
    for hit in hits {
        // Both columns hold one text per document.
        if let Some(ord) = column.term_ords(hit.doc).next() {
            ordered.push((ord, hit));
        }
    }
    ordered.sort_unstable_by_key(|(ord, _)| *ord);
    let (ords, hits): (Vec<u64>, Vec<Hit<'a>>) = ordered.into_iter().unzip();
    let mut rest = hits.into_iter();
    let mut same = Vec::new();
    column.dictionary().sorted_ords_to_term_cb(&ords, |found| {
        if let Some(hit) = rest.next()
            && text(hit.suspect.document).as_bytes() == found
        {
            same.push(hit);
        }
    })?;
    Ok(same)
}

#[cfg(test)]
mod tests {
    use super::super::fields::schema;
    use super::super::open_index;
    use super::*;
    use sluice_ports::Document;
    use tantivy::directory::RamDirectory;
    use tantivy::indexer::NoMergePolicy;
    use tantivy::{Index, IndexWriter};

    const PER_SEGMENT: usize = 1_000;

    fn document(index: &str, n: usize) -> Prepared {
        let document = Document { index: index.to_owned(), id: format!("id-{n}"), source: "{}".to_owned() };
        Prepared::read(document, schema().1, None, &|_| true).unwrap()
    }

    /// Documents 0 to 2,999 of the index `a`, in three segments.
    fn index() -> Index {
        let index = open_index(Box::new(RamDirectory::create()), schema().0).unwrap();
        let mut writer: IndexWriter<Prepared> = index.writer_with_num_threads(1, 15_000_000).unwrap();
        writer.set_merge_policy(Box::new(NoMergePolicy));
        for segment in 0..3 {
            for n in 0..PER_SEGMENT {
                writer.add_document(document("a", segment * PER_SEGMENT + n)).unwrap();
            }
            writer.commit().unwrap();
        }
        index
    }

    #[test]
    fn few_and_many_documents_are_told_from_those_that_are_new() {
        let index = index();
        let searcher = index.reader().unwrap().searcher();
        assert_eq!(searcher.segment_readers().len(), 3);
        for step in [700, 100, 3] {
            // Half of them are there.
            let documents: Vec<Prepared> = (0..6 * PER_SEGMENT).step_by(step).map(|n| document("a", n)).collect();
            let suspects = documents.iter().enumerate().map(|(position, document)| Suspect { position, document });
            let found = existing(&searcher, schema().1, suspects.collect()).unwrap();
            let there = (0..documents.len()).filter(|n| n * step < 3 * PER_SEGMENT).collect::<HashSet<_>>();
            assert_eq!(found, there, "every {step}th");
        }
    }

    #[test]
    fn documents_with_equal_keys_are_told_apart() {
        let index = index();
        let searcher = index.reader().unwrap().searcher();
        let there = document("a", 7);
        for (index, n, is_there) in [("a", 7, true), ("a", 9_999, false), ("a", 8, false), ("b", 7, false)] {
            let mut documents = [document(index, n), document("a", 2_500)];
            documents[0].key = there.key;
            let suspects = documents.iter().enumerate().map(|(position, document)| Suspect { position, document });
            let found = existing(&searcher, schema().1, suspects.collect()).unwrap();
            assert_eq!((found.contains(&0), found.contains(&1)), (is_there, true), "{index} {n}");
        }
    }
}
