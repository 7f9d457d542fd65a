//! The slow, obvious reader: an event's values as cells, by their names. What the quick one leaves is read here, and what it takes has to
//! come out the same.

use sluice_domain::event::{Data, Event, write_members};
use sluice_domain::json::{Object, Value, write_string};
use sluice_domain::lake::Misfit;
use sluice_domain::schema::{Cell, ColumnKind, ENVELOPE, Schema};
use std::borrow::Cow;

/// Reads an event into cells, whole rows only, so that a value that does not fit leaves nothing behind.
pub(crate) struct RowReader<'s, 'e> {
    schema: &'s Schema,
    /// Columns that have a value, and their values.
    cells: Vec<(usize, Cell<'e>)>,
    /// Fields without a column, as JSON text.
    unknown: Vec<(&'e str, Cow<'e, str>)>,
    /// The column `extra`, empty where it is null.
    extra: String,
    generic: Option<Generic>,
}

/// Where the generic table keeps a payload; a schema file of the user's own may lack the columns.
pub(crate) struct Generic {
    pub(crate) data: Option<usize>,
    base64: Option<usize>,
    /// A payload that was put into an object, and its column.
    wrapped: Option<(usize, String)>,
}

impl<'s, 'e> RowReader<'s, 'e> {
    pub(crate) fn new(schema: &'s Schema) -> Self {
        Self {
            schema,
            cells: Vec::with_capacity(schema.columns.len()),
            unknown: Vec::new(),
            extra: String::new(),
            generic: schema.is_generic().then(|| Generic::new(schema)),
        }
    }

    /// Reads the values of an event, or says why they do not fit.
    pub(crate) fn read(&mut self, event: &'e Event<'_>) -> Result<(), Misfit> {
        self.cells.clear();
        self.unknown.clear();
        self.extra.clear();
        if let Some(generic) = &mut self.generic {
            generic.read(&event.data, &mut self.cells, &mut self.unknown);
        } else {
            match &event.data {
                Data::Json(node) => match &node.value {
                    Value::Object(object) => self.read_fields(object)?,
                    _ => return Err(misfit("/data", format!("`data` is an object, not {}", node.kind()))),
                },
                Data::Absent => {}
                Data::Base64(_) => return Err(misfit("/data_base64", "a type with a schema takes `data`".into())),
            }
        }
        if !self.unknown.is_empty() || !event.extra.is_empty() {
            let fields = self.unknown.iter().map(|(name, raw)| (*name, raw.as_ref()));
            let attributes = event.extra.iter().map(|(name, raw)| (name.as_ref(), raw.as_ref()));
            write_members(&mut self.extra, fields.chain(attributes));
        }
        Ok(())
    }

    fn read_fields(&mut self, object: &'e Object<'_>) -> Result<(), Misfit> {
        for (name, node) in &object.0 {
            let Some(index) = self.schema.column_index(name) else {
                self.unknown.push((name, Cow::Borrowed(node.raw)));
                continue;
            };
            match self.schema.columns[index].read(node) {
                Ok(Cell::Null) => {}
                Ok(cell) => self.cells.push((index, cell)),
                Err(violation) => return Err(misfit(&violation.pointer, violation.reason)),
            }
        }
        Ok(())
    }

    /// The row that was read last, as columns of the table and their values.
    pub(crate) fn row<'r>(&'r self, event: &'r Event<'_>) -> impl Iterator<Item = (usize, Cell<'r>)>
    where
        'e: 'r,
    {
        let envelope = ENVELOPE.iter().enumerate().map(|(i, column)| match column.name {
            "extra" if !self.extra.is_empty() => (i, Cell::Text(&self.extra)),
            name => (i, attribute(name, event)),
        });
        let data = self.cells.iter().map(|(index, cell)| (*index, cell.clone())).chain(self.wrapped());
        envelope.chain(data.map(|(index, cell)| (ENVELOPE.len() + index, cell)))
    }

    fn wrapped(&self) -> Option<(usize, Cell<'_>)> {
        let (index, text) = self.generic.as_ref()?.wrapped.as_ref()?;
        Some((*index, Cell::Json(text)))
    }
}

impl Generic {
    pub(crate) fn new(schema: &Schema) -> Self {
        let text_column = |name: &str| {
            let index = schema.column_index(name)?;
            matches!(schema.columns[index].kind, ColumnKind::Json | ColumnKind::Text).then_some(index)
        };
        Self { data: text_column("data"), base64: text_column("data_base64"), wrapped: None }
    }

    /// Puts a payload into its column, or among the unknown fields where there is none.
    fn read<'e>(
        &mut self,
        data: &'e Data<'_>,
        cells: &mut Vec<(usize, Cell<'e>)>,
        unknown: &mut Vec<(&'e str, Cow<'e, str>)>,
    ) {
        self.wrapped = None;
        match data {
            Data::Absent => {}
            Data::Json(node) => match self.data {
                Some(index) if node.as_object().is_some() => cells.push((index, Cell::Json(node.raw))),
                Some(index) => self.wrapped = Some((index, format!("{{\"value\":{}}}", node.raw))),
                None => unknown.push(("data", Cow::Borrowed(node.raw))),
            },
            Data::Base64(text) => match self.base64 {
                Some(index) => cells.push((index, Cell::Text(text))),
                None => {
                    let mut json = String::with_capacity(text.len() + 2);
                    write_string(&mut json, text);
                    unknown.push(("data_base64", Cow::Owned(json)));
                }
            },
        }
    }
}

/// The value of an envelope column, except `extra`.
fn attribute<'r>(name: &str, event: &'r Event<'_>) -> Cell<'r> {
    let text = |value: &'r Option<Cow<'_, str>>| value.as_deref().map_or(Cell::Null, Cell::Text);
    match name {
        "id" => Cell::Text(&event.id),
        "source" => Cell::Text(&event.source),
        "type" => Cell::Text(&event.event_type),
        "time" => Cell::Timestamp(event.time.micros()),
        "receivedtime" => Cell::Timestamp(event.received.micros()),
        "subject" => text(&event.subject),
        "userid" => text(&event.user_id),
        "sessionid" => text(&event.session_id),
        "clientip" => text(&event.client_ip),
        "useragent" => text(&event.user_agent),
        "specversion" => text(&event.spec_version),
        "datacontenttype" => text(&event.data_content_type),
        "dataschema" => text(&event.data_schema),
        "tracestate" => text(&event.trace_state),
        "traceparent" => text(&event.trace_parent),
        "hops" => event.hops.map_or(Cell::Null, Cell::Integer),
        _ => Cell::Null,
    }
}

fn misfit(pointer: &str, reason: String) -> Misfit {
    Misfit { pointer: pointer.to_owned(), reason }
}
