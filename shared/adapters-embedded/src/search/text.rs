//! How running text becomes terms: words in lower case, and runs of Hangul, kana and ideographs as overlapping pairs, so that Korean is
//! found by parts of words without a dictionary.

use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

/// The name under which the tokenizer is registered; part of the index format.
pub(super) const WORDS: &str = "sluice_words";

/// Longer words are cut into pieces of this many bytes.
const WORD_BYTES: usize = 128;

/// A piece of a query text, in the terms that [`Words`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A word, or a pair that stands alone.
    Term(String),
    /// Pairs that follow each other.
    Run(Vec<String>),
    /// One character of a script without spaces: the begin of a term.
    Begin(String),
}

/// Splits a query text into pieces, each with its position, and the number of positions in all.
pub(super) fn pieces(text: &str) -> Vec<(usize, Piece)> {
    let mut pieces: Vec<(usize, Piece)> = Vec::new();
    let mut runs = Runs::new(text);
    let mut position = 0;
    while let Some(run) = runs.next_run() {
        match run {
            Run::Word(range) => {
                pieces.push((position, Piece::Term(lower(&text[range]))));
                position += 1;
            }
            Run::Grams(range) => {
                let run = &text[range];
                let starts: Vec<usize> = run.char_indices().map(|(at, _)| at).chain([run.len()]).collect();
                let mut pairs: Vec<String> = starts.windows(3).map(|w| lower(&run[w[0]..w[2]])).collect();
                let chars = starts.len() - 1;
                let piece = match (pairs.len(), pairs.pop()) {
                    (1, Some(pair)) => Piece::Term(pair),
                    (_, Some(last)) => {
                        pairs.push(last);
                        Piece::Run(pairs)
                    }
                    (_, None) => Piece::Begin(lower(run)),
                };
                pieces.push((position, piece));
                position += chars;
            }
        }
    }
    pieces
}

fn lower(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// The tokenizer of the `text` field. A run of n characters of a script without spaces yields its n − 1 pairs and its last character, so
/// that each of its characters begins a term.
#[derive(Debug, Clone, Default)]
pub(super) struct Words {
    token: Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.token.reset();
        WordStream { text, runs: Runs::new(text), grams: 0..0, token: &mut self.token }
    }
}

/// The terms of one text.
pub(super) struct WordStream<'a> {
    text: &'a str,
    runs: Runs<'a>,
    grams: std::ops::Range<usize>,
    token: &'a mut Token,
}

impl WordStream<'_> {
    fn emit(&mut self, range: std::ops::Range<usize>) -> bool {
        self.token.position = self.token.position.wrapping_add(1);
        self.token.offset_from = range.start;
        self.token.offset_to = range.end;
        self.token.text.clear();
        let text = &self.text[range];
        if text.is_ascii() {
            self.token.text.push_str(text);
            self.token.text.make_ascii_lowercase();
        } else {
            self.token.text.extend(text.chars().flat_map(char::to_lowercase));
        }
        true
    }
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        if self.grams.is_empty() {
            match self.runs.next_run() {
                None => return false,
                Some(Run::Word(range)) => return self.emit(range),
                Some(Run::Grams(range)) => self.grams = range,
            }
        }
        let rest = &self.text[self.grams.clone()];
        let mut widths = rest.chars().map(char::len_utf8);
        let first = widths.next().unwrap_or(rest.len());
        let pair = first + widths.next().unwrap_or(0);
        let start = self.grams.start;
        self.grams.start += first;
        self.emit(start..start + pair)
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

enum Run {
    Word(std::ops::Range<usize>),
    Grams(std::ops::Range<usize>),
}

struct Runs<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Runs<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn next_run(&mut self) -> Option<Run> {
        let rest = &self.text[self.at..];
        let (skipped, first) = rest.char_indices().find(|(_, c)| is_word(*c))?;
        let start = self.at + skipped;
        let grams = is_gram(first);
        let mut end = start;
        for c in self.text[start..].chars() {
            if !is_word(c) || is_gram(c) != grams || (!grams && end - start >= WORD_BYTES) {
                break;
            }
            end += c.len_utf8();
        }
        self.at = end;
        Some(if grams { Run::Grams(start..end) } else { Run::Word(start..end) })
    }
}

fn is_word(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphanumeric() || c == '_' } else { c.is_alphanumeric() }
}

/// Hangul, kana and ideographs (Unicode 16 blocks).
fn is_gram(c: char) -> bool {
    matches!(c,
        '\u{1100}'..='\u{11FF}' | '\u{3040}'..='\u{30FF}' | '\u{3130}'..='\u{318F}' | '\u{31F0}'..='\u{31FF}'
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{A960}'..='\u{A97F}' | '\u{AC00}'..='\u{D7FF}'
        | '\u{F900}'..='\u{FAFF}' | '\u{FF66}'..='\u{FF9F}' | '\u{20000}'..='\u{323AF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<(usize, String)> {
        let mut words = Words::default();
        let mut stream = words.token_stream(text);
        let mut terms = Vec::new();
        stream.process(&mut |token| terms.push((token.position, token.text.clone())));
        terms
    }

    fn term(position: usize, text: &str) -> (usize, String) {
        (position, text.to_owned())
    }

    #[test]
    fn words_are_lower_cased_and_split_at_punctuation() {
        assert_eq!(terms("Hello, big_WORLD!"), [term(0, "hello"), term(1, "big_world")]);
    }

    #[test]
    fn a_korean_word_yields_its_pairs_and_its_last_syllable() {
        assert_eq!(terms("삼성전자"), [term(0, "삼성"), term(1, "성전"), term(2, "전자"), term(3, "자")]);
    }

    #[test]
    fn latin_and_hangul_are_parted() {
        assert_eq!(terms("LG전자 1주"), [term(0, "lg"), term(1, "전자"), term(2, "자"), term(3, "1"), term(4, "주")]);
    }

    #[test]
    fn long_words_are_cut() {
        let terms = terms(&"a".repeat(300));
        assert_eq!(terms.iter().map(|(_, text)| text.len()).collect::<Vec<_>>(), [128, 128, 44]);
    }

    #[test]
    fn query_pieces_lie_at_the_positions_of_their_terms() {
        assert_eq!(
            pieces("LG전자 가"),
            [
                (0, Piece::Term("lg".to_owned())),
                (1, Piece::Term("전자".to_owned())),
                (3, Piece::Begin("가".to_owned())),
            ]
        );
        assert_eq!(
            pieces("삼성전자"),
            [(0, Piece::Run(vec!["삼성".to_owned(), "성전".to_owned(), "전자".to_owned()]))]
        );
    }
}
