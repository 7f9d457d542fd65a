use std::fmt;

/// Why a template cannot be used, and where in the file the reason stands.
///
/// A path has the file's own keys, for example `Resources.ConvertFunction.Properties.Timeout`, with `[0]` for the first item of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateError {
    /// The text is not YAML.
    Syntax {
        /// Line from 1, where the parser knows it.
        line: Option<usize>,
        /// What the parser says.
        message: String,
    },
    /// Something stands there that this crate does not know.
    Unknown {
        /// Where it stands.
        path: String,
        /// What it is: `property`, `resource type`, `section` …
        what: &'static str,
        /// Its name, where the path does not end with it.
        name: Option<String>,
        /// What would be known in its place; empty where that is no short list.
        known: Vec<String>,
    },
    /// A name is used there that the template does not define.
    Unresolved {
        /// Where it is used.
        path: String,
        /// The name and why it leads nowhere.
        message: String,
    },
    /// What stands there is missing a part, has the wrong form or a value out of range.
    Invalid {
        /// Where it stands.
        path: String,
        /// What is wrong with it.
        message: String,
    },
}

impl TemplateError {
    /// Where in the file the error stands: a path, or `line N` for text that is not YAML.
    pub fn place(&self) -> String {
        match self {
            Self::Syntax { line: Some(line), .. } => format!("line {line}"),
            Self::Syntax { line: None, .. } => "the file".to_owned(),
            Self::Unknown { path, .. } | Self::Unresolved { path, .. } | Self::Invalid { path, .. } => path.clone(),
        }
    }

    pub(crate) fn unknown(path: impl Into<String>, what: &'static str) -> Self {
        Self::Unknown { path: path.into(), what, name: None, known: Vec::new() }
    }

    pub(crate) fn unknown_name(path: impl Into<String>, what: &'static str, name: impl Into<String>) -> Self {
        Self::Unknown { path: path.into(), what, name: Some(name.into()), known: Vec::new() }
    }

    pub(crate) fn knowing<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        if let Self::Unknown { known, .. } = &mut self {
            *known = names.into_iter().map(Into::into).collect();
        }
        self
    }

    pub(crate) fn unresolved(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Unresolved { path: path.into(), message: message.into() }
    }

    pub(crate) fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place())?;
        match self {
            Self::Syntax { message, .. } | Self::Unresolved { message, .. } | Self::Invalid { message, .. } => {
                f.write_str(message)
            }
            Self::Unknown { what, name, known, .. } => {
                write!(f, "unknown {what}")?;
                if let Some(name) = name {
                    write!(f, " `{name}`")?;
                }
                if !known.is_empty() {
                    write!(f, " (known here: {})", known.join(", "))?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for TemplateError {}
