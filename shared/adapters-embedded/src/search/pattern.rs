//! Patterns over terms (`prefix`, `wildcard`): a walk over the terms of one path, narrowed by what stands before the first wildcard.

use tantivy::query::{BitSetDocSet, ConstScorer, EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{BitSet, DocId, DocSet, Score, SegmentReader, TERMINATED, TantivyError};

/// A pattern of `*` (any text), `?` (one character) and literal characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    parts: Vec<Part>,
    fold_case: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Char(char),
}

impl Pattern {
    /// A wildcard pattern; a backslash takes the meaning of the character after it.
    pub(super) fn wildcard(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '*' if parts.last() == Some(&Part::Any) => {}
                '*' => parts.push(Part::Any),
                '?' => parts.push(Part::One),
                '\\' => parts.push(Part::Char(chars.next().unwrap_or('\\'))),
                c => parts.push(Part::Char(c)),
            }
        }
        Self { parts, fold_case: false }
    }

    /// What begins with `text`.
    pub(super) fn prefix(text: &str) -> Self {
        Self { parts: text.chars().map(Part::Char).chain([Part::Any]).collect(), fold_case: false }
    }

    /// The same, whatever the case of its letters.
    pub(super) fn folding_case(self) -> Self {
        Self { fold_case: true, ..self }
    }

    /// Whether `text` fits. Linear in `text` times the pattern at worst.
    pub(super) fn fits(&self, text: &str) -> bool {
        let (mut at, mut rest) = (0, text.chars());
        let mut back: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let mut ahead = rest.clone();
            let next = ahead.next();
            let matched = match (self.parts.get(at), next) {
                (Some(Part::Any), _) => {
                    at += 1;
                    if at == self.parts.len() {
                        return true;
                    }
                    back = Some((at, rest.clone()));
                    continue;
                }
                (Some(Part::One), Some(_)) => true,
                (Some(Part::Char(c)), Some(next)) => self.same(*c, next),
                (None, None) => return true,
                _ => false,
            };
            if matched {
                at += 1;
                rest = ahead;
                continue;
            }
            let Some((part, mut from)) = back.take() else { return false };
            if from.next().is_none() {
                return false;
            }
            at = part;
            rest = from.clone();
            back = Some((part, from));
        }
    }

    fn same(&self, left: char, right: char) -> bool {
        left == right || (self.fold_case && left.to_lowercase().eq(right.to_lowercase()))
    }

    /// The text that every fitting text begins with.
    fn literal_prefix(&self) -> String {
        if self.fold_case {
            return String::new();
        }
        self.parts.iter().map_while(|part| if let Part::Char(c) = part { Some(*c) } else { None }).collect()
    }
}

/// Documents with a term of `field` that begins with the bytes `head` and goes on as `pattern`. Each scores 1.
#[derive(Debug, Clone)]
pub(super) struct PatternQuery {
    pub field: Field,
    pub head: Vec<u8>,
    pub pattern: Pattern,
}

impl Query for PatternQuery {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(PatternWeight(self.clone())))
    }
}

struct PatternWeight(PatternQuery);

impl Weight for PatternWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let PatternQuery { field, head, pattern } = &self.0;
        let inverted = reader.inverted_index(*field)?;
        let terms = inverted.terms();
        let mut low = head.clone();
        low.extend_from_slice(pattern.literal_prefix().as_bytes());
        let mut range = terms.range().ge(&low);
        if let Some(high) = successor(&low) {
            range = range.lt(high);
        }
        let mut stream = range.into_stream()?;
        let mut docs: Option<BitSet> = None;
        while stream.advance() {
            let fits = std::str::from_utf8(&stream.key()[head.len()..]).is_ok_and(|text| pattern.fits(text));
            if !fits {
                continue;
            }
            let docs = docs.get_or_insert_with(|| BitSet::with_max_value(reader.max_doc()));
            let mut postings = inverted.read_block_postings_from_terminfo(stream.value(), IndexRecordOption::Basic)?;
            while !postings.docs().is_empty() {
                for doc in postings.docs() {
                    docs.insert(*doc);
                }
                postings.advance();
            }
        }
        Ok(match docs {
            Some(docs) => Box::new(ConstScorer::new(BitSetDocSet::from(docs), boost)),
            None => Box::new(EmptyScorer),
        })
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        let mut scorer = self.scorer(reader, 1.0)?;
        if scorer.doc() != TERMINATED && scorer.seek(doc) == doc {
            return Ok(Explanation::new("PatternQuery", 1.0));
        }
        Err(TantivyError::InvalidArgument(format!("document {doc} does not match")))
    }
}

/// The least byte string after all that begin with `bytes`.
fn successor(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut end = bytes.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_fit_what_they_should() {
        for (pattern, text, expected) in [
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "ab", false),
            ("*", "", true),
            ("?", "삼", true),
            ("?", "", false),
            ("*b*d*", "abcde", true),
            ("*ab", "aab", true),
            ("a?c*", "abcd", true),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Pattern::wildcard(pattern).fits(text), expected, "{pattern} on {text}");
        }
        assert!(Pattern::wildcard("HE*").folding_case().fits("hello"));
        assert!(Pattern::prefix("삼성").fits("삼성전자"));
    }

    #[test]
    fn many_wildcards_do_not_take_exponential_time() {
        let pattern = Pattern::wildcard(&"a*".repeat(60));
        assert!(!pattern.fits(&("a".repeat(59) + &"b".repeat(5_000))));
    }

    #[test]
    fn the_end_of_a_prefix_range_skips_full_bytes() {
        assert_eq!(successor(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(successor(&[1, 255]), Some(vec![2]));
        assert_eq!(successor(&[255]), None);
    }
}
