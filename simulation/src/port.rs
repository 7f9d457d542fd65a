//! The ports as the stages get them: each call waits for the scheduler.

use crate::call::{Calls, Operation, QueueName, Reply};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use sluice_ports::{
    Append, Catalog, Delivery, Depth, Document, DocumentOutcome, Email, Forget, IndexTemplate, Item, Key, Mail,
    Message, ObjectMeta, Objects, PortError, PutMode, Query, Queue, Receipt, Replace, Search, Settlement, Table,
    TableFigures, TableFile, TableHead, Topic, Write,
};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// All ports but the queues.
#[derive(Debug)]
pub struct Ports(pub Arc<Calls>);

/// A queue to send to.
#[derive(Debug)]
pub struct SendingQueue(pub Arc<Calls>, pub QueueName);

impl Ports {
    async fn unit(&self, operation: Operation) -> Result<(), PortError> {
        match self.0.call(operation).await {
            Reply::Unit(result) => result,
            other => unreachable!("{other:?}"),
        }
    }
}

async fn each(calls: &Calls, operation: Operation) -> Vec<Result<(), PortError>> {
    match calls.call(operation).await {
        Reply::Each(results) => results,
        other => unreachable!("{other:?}"),
    }
}

#[async_trait]
impl Table for Ports {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, PortError> {
        match self.0.call(Operation::Get(keys.to_vec())).await {
            Reply::Rows(result) => result,
            other => unreachable!("{other:?}"),
        }
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), PortError> {
        self.unit(Operation::Write(writes)).await
    }

    async fn query(&self, query: Query) -> Result<Vec<Item>, PortError> {
        match self.0.call(Operation::Query(query)).await {
            Reply::Range(result) => result,
            other => unreachable!("{other:?}"),
        }
    }
}

#[async_trait]
impl Catalog for Ports {
    async fn load(&self, table: &str) -> Result<Option<TableHead>, PortError> {
        match self.0.call(Operation::Load(table.to_owned())).await {
            Reply::Head(result) => result,
            other => unreachable!("{other:?}"),
        }
    }

    async fn create(&self, table: &str) -> Result<(), PortError> {
        self.unit(Operation::Make(table.to_owned())).await
    }

    async fn append(&self, append: Append) -> Result<(), PortError> {
        self.unit(Operation::Append(append)).await
    }

    async fn files(&self, table: &str) -> Result<Option<(TableHead, Vec<TableFile>)>, PortError> {
        match self.0.call(Operation::Files(table.to_owned())).await {
            Reply::Files(result) => result,
            other => unreachable!("{other:?}"),
        }
    }

    async fn replace(&self, replace: Replace) -> Result<(), PortError> {
        self.unit(Operation::Replace(replace)).await
    }

    async fn needed(&self, _: &str) -> Result<Option<BTreeSet<String>>, PortError> {
        unreachable!("no orphan is looked for")
    }

    async fn forget(&self, _: Forget) -> Result<(), PortError> {
        unreachable!("nothing is erased")
    }

    async fn figures(&self) -> Result<Vec<TableFigures>, PortError> {
        unreachable!("no stage of the pipeline asks for figures")
    }
}

#[async_trait]
impl Topic for Ports {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        each(&self.0, Operation::Publish(messages)).await
    }
}

#[async_trait]
impl Mail for Ports {
    async fn send(&self, email: Email) -> Result<(), PortError> {
        self.unit(Operation::Mail(email)).await
    }
}

#[async_trait]
impl Search for Ports {
    async fn define(&self, _: Vec<IndexTemplate>) -> Result<(), PortError> {
        unreachable!("templates are put before the pipeline starts")
    }

    async fn create(&self, documents: Vec<Document>) -> Result<Vec<DocumentOutcome>, PortError> {
        match self.0.call(Operation::Create(documents)).await {
            Reply::Documents(result) => result,
            other => unreachable!("{other:?}"),
        }
    }

    async fn search(&self, _: &str, _: &Value) -> Result<Value, PortError> {
        unreachable!("no stage of the pipeline searches")
    }
}

#[async_trait]
impl Objects for Ports {
    async fn put(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<(), PortError> {
        self.unit(Operation::Put(key.to_owned(), bytes, mode)).await
    }

    async fn get(&self, key: &str, _: Option<Range<u64>>) -> Result<Bytes, PortError> {
        match self.0.call(Operation::Read(key.to_owned())).await {
            Reply::Bytes(result) => result,
            other => unreachable!("{other:?}"),
        }
    }

    async fn list(&self, _: &str, _: Option<&str>, _: usize) -> Result<Vec<ObjectMeta>, PortError> {
        unreachable!("no stage of the pipeline lists objects")
    }

    async fn delete(&self, _: &str) -> Result<(), PortError> {
        unreachable!("no stage of the pipeline removes objects")
    }
}

#[async_trait]
impl Queue for SendingQueue {
    async fn send(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        each(&self.0, Operation::Send(self.1, messages)).await
    }

    async fn receive(&self, _: usize, _: Duration) -> Result<Vec<Delivery>, PortError> {
        unreachable!("a stage does not receive")
    }

    async fn settle(&self, _: Vec<(Receipt, Settlement)>) -> Vec<Result<(), PortError>> {
        unreachable!("a stage does not settle")
    }

    async fn depth(&self) -> Result<Depth, PortError> {
        unreachable!("a stage does not ask for the depth")
    }
}
