use crate::filter::{Filter, Pattern};
use crate::known::{IGNORED_PROPERTIES, IGNORED_TYPES};
use crate::read::{self, read_properties};
use crate::resolve::Names;
use crate::route::{self, Route, RouteMatch};
use crate::scalar::{Flag, Text, Whole};
use crate::{TemplateError, syntax};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SAM: &str = "AWS::Serverless-2016-10-31";

/// Limits of the services, so that nothing starts on one machine that could not be deployed.
/// Source: quotas pages of AWS Lambda, Amazon SQS and AWS SAM.
mod limit {
    use std::ops::RangeInclusive;
    pub(super) const FUNCTION_TIMEOUT_S: RangeInclusive<u64> = 1..=900;
    pub(super) const MEMORY_MIB: RangeInclusive<u64> = 128..=10_240;
    pub(super) const VISIBILITY_S: RangeInclusive<u64> = 0..=43_200;
    pub(super) const RETENTION_S: RangeInclusive<u64> = 60..=1_209_600;
    pub(super) const RECEIVE_COUNT: RangeInclusive<u64> = 1..=1_000;
    pub(super) const BATCH_SIZE: RangeInclusive<u64> = 1..=10_000;
    pub(super) const WINDOW_S: RangeInclusive<u64> = 0..=300;
    pub(super) const CONCURRENCY: RangeInclusive<u64> = 2..=1_000;
    /// A batch larger than this needs a window.
    pub(super) const BATCH_WITHOUT_WINDOW: u64 = 10;
}

/// Everything that `template.yaml` says about the wiring. Things are named by their logical id (`ConvertFunction`, `ConvertQueue`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Topology {
    /// Logical id → function.
    pub functions: BTreeMap<String, Function>,
    /// Logical id → queue, dead-letter queues included.
    pub queues: BTreeMap<String, Queue>,
    /// Logical ids of the topics.
    pub topics: BTreeSet<String>,
    /// Logical id → subscription of a queue to a topic.
    pub subscriptions: BTreeMap<String, Subscription>,
    /// Routes of the HTTP API, sorted by logical id. See [`Topology::route`].
    pub routes: Vec<Route>,
    /// Logical id → table.
    pub tables: BTreeMap<String, Table>,
    /// Logical id → bucket.
    pub buckets: BTreeMap<String, Bucket>,
    /// Parameter name → parameter.
    pub parameters: BTreeMap<String, Parameter>,
    /// Logical id → permission for a service to call a function. One machine needs none; without one, a route fails on AWS.
    pub permissions: BTreeMap<String, Permission>,
    /// Logical id → alarm. One machine raises none; without one, what fails on AWS goes unseen.
    pub alarms: BTreeMap<String, Alarm>,
    /// Queues that have a policy which lets a topic send. One machine needs none; without one, a subscription fails on AWS.
    pub queues_with_policy: BTreeSet<String>,
    /// Places in the file that are known and mean nothing on one machine, sorted.
    pub ignored: Vec<String>,
}

/// A function, and what calls it.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// The stage: last part of `CodeUri`, for example `convert`; also the name of package and binary.
    pub verb: String,
    /// `CodeUri` as it stands, relative to the template, for example `functions/convert`.
    pub code_uri: String,
    /// The longest that one call may take.
    pub timeout: Duration,
    /// Memory of one environment in MiB.
    pub memory_mib: u32,
    /// Environment variables, resolved: parameters are their values, resources their logical ids.
    pub environment: BTreeMap<String, String>,
    /// What calls the function beside routes, sorted by the name of the event source.
    pub triggers: Vec<Trigger>,
}

/// What calls a function.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// Messages of a queue (SAM event `SQS`).
    Queue {
        /// Name of the event source in the template.
        name: String,
        /// Logical id of the queue.
        queue: String,
        /// At most this many messages in one call, 1–10,000.
        batch_size: u32,
        /// How long to wait for a batch to fill.
        window: Duration,
        /// Whether the reply names the messages that failed (`ReportBatchItemFailures`); if not, a call fails as a whole.
        partial_failures: bool,
        /// At most this many calls at a time, where the template says so.
        max_concurrency: Option<u32>,
        /// Whether it is switched on.
        enabled: bool,
    },
    /// The clock (SAM event `ScheduleV2`).
    Schedule {
        /// Name of the event source in the template.
        name: String,
        /// Time between two calls; a whole number of minutes.
        every: Duration,
        /// The event that the function gets.
        input: Value,
        /// Whether it is switched on.
        enabled: bool,
    },
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// How long a received message stays invisible.
    pub visibility: Duration,
    /// How long a message is kept.
    pub retention: Duration,
    /// Where messages go that were received too often.
    pub dead_letter: Option<DeadLetter>,
}

/// The dead-letter queue behind a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Logical id of the dead-letter queue.
    pub queue: String,
    /// A message that was received this often without being deleted moves there at the next receive.
    pub max_receive_count: u32,
}

/// A queue that gets what is published on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Logical id of the topic.
    pub topic: String,
    /// Logical id of the queue.
    pub queue: String,
    /// Whether the body arrives as it was published (`RawMessageDelivery`).
    pub raw: bool,
    /// Which messages it gets.
    pub filter: Filter,
    /// Logical id of the queue for messages that could not be delivered.
    pub dead_letter: Option<String>,
}

/// The table: partition key and sort key, both text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Attribute of the partition key.
    pub partition_key: String,
    /// Attribute of the sort key.
    pub sort_key: String,
    /// Attribute with the time of expiry in seconds since the epoch, where rows expire.
    pub ttl_attribute: Option<String>,
}

/// A bucket; nothing of it but its name matters on one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {}

/// A parameter of the template; each setting `SLUICE_X_Y` has one called `XY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The default, as text.
    pub default: Option<String>,
    /// The value it has in this topology: what the caller gave, else the default.
    pub value: Option<String>,
    /// What it is for.
    pub description: String,
    /// The values it may have; empty for any.
    pub allowed_values: Vec<String>,
    /// Whether it is a number.
    pub numeric: bool,
    /// Whether it is hidden in consoles (`NoEcho`).
    pub no_echo: bool,
}

/// Lets a service call a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// Logical id of the function.
    pub function: String,
    /// The service, for example `apigateway.amazonaws.com`.
    pub principal: String,
}

/// Tells somebody when a figure of a queue or function leaves its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Name of the metric, for example `ApproximateNumberOfMessagesVisible`.
    pub metric: String,
    /// Logical id of the queue or function that is watched.
    pub subject: String,
    /// Logical ids of the topics that are told.
    pub topics: Vec<String>,
}

impl Topology {
    /// Reads the text of a template; parameters have their defaults.
    ///
    /// # Errors
    /// The first thing that is not YAML, not known, not resolvable or out of range, with its place in the file.
    pub fn parse(yaml: &str) -> Result<Self, TemplateError> {
        Self::parse_with(yaml, &BTreeMap::new())
    }

    /// Reads the text of a template with values for some of its parameters (parameter name → value), as `sam deploy
    /// --parameter-overrides` would.
    ///
    /// # Errors
    /// As [`Topology::parse`]; also a value for a parameter that there is not, or one that the parameter does not allow.
    pub fn parse_with(yaml: &str, values: &BTreeMap<String, String>) -> Result<Self, TemplateError> {
        let root = mapping(syntax::parse(yaml)?, "the file")?;
        let mut sections = Sections::split(root)?;
        let mut ignored = Vec::new();
        let parameters = read_parameters(std::mem::take(&mut sections.parameters), values, &mut ignored)?;
        Reader::new(&sections, parameters, ignored)?.read(&sections)
    }

    /// The route that answers a request, by the priority of API Gateway: a full match before one with a greedy variable, then a route
    /// for this method before one for any. `None` if there is none; [`Topology::allowed_methods`] says whether it is the method.
    ///
    /// `path` begins with `/` and has no query; path variables are handed over as they stand in it.
    pub fn route(&self, method: &str, path: &str) -> Option<RouteMatch<'_>> {
        route::find(&self.routes, method, path)
    }

    /// The methods that some route answers at this path, sorted; empty if no route knows the path.
    pub fn allowed_methods(&self, path: &str) -> BTreeSet<&str> {
        route::methods(&self.routes, path)
    }

    /// The logical id and the function of a verb.
    pub fn function_of(&self, verb: &str) -> Option<(&str, &Function)> {
        self.functions.iter().find(|(_, function)| function.verb == verb).map(|(id, function)| (id.as_str(), function))
    }

    /// The functions that consume a queue, by logical id.
    pub fn consumers(&self, queue_id: &str) -> Vec<&str> {
        self.functions
            .iter()
            .filter(|(_, function)| {
                function
                    .triggers
                    .iter()
                    .any(|trigger| matches!(trigger, Trigger::Queue { queue, .. } if queue == queue_id))
            })
            .map(|(id, _)| id.as_str())
            .collect()
    }
}

/// The sections of the file.
#[derive(Default)]
struct Sections {
    parameters: Map<String, Value>,
    mappings: Map<String, Value>,
    conditions: Map<String, Value>,
    globals: Value,
    resources: Map<String, Value>,
    outputs: Map<String, Value>,
}

impl Sections {
    fn split(root: Map<String, Value>) -> Result<Self, TemplateError> {
        const KNOWN: [&str; 10] = [
            "AWSTemplateFormatVersion",
            "Conditions",
            "Description",
            "Globals",
            "Mappings",
            "Metadata",
            "Outputs",
            "Parameters",
            "Resources",
            "Transform",
        ];
        let mut sections = Self::default();
        let mut transform = None;
        for (name, value) in root {
            match name.as_str() {
                "AWSTemplateFormatVersion" | "Description" | "Metadata" => {}
                "Transform" => transform = Some(value),
                "Parameters" => sections.parameters = mapping(value, &name)?,
                "Mappings" => sections.mappings = mapping(value, &name)?,
                "Conditions" => sections.conditions = mapping(value, &name)?,
                "Globals" => sections.globals = value,
                "Resources" => sections.resources = mapping(value, &name)?,
                "Outputs" => sections.outputs = mapping(value, &name)?,
                _ => return Err(TemplateError::unknown(name, "section").knowing(KNOWN)),
            }
        }
        let sam_only = match transform {
            Some(Value::String(name)) => name == SAM,
            Some(Value::Array(names)) => names.len() == 1 && names[0] == SAM,
            _ => false,
        };
        if !sam_only {
            return Err(TemplateError::invalid("Transform", format!("must be `{SAM}`")));
        }
        if sections.resources.is_empty() {
            return Err(TemplateError::invalid("Resources", "is missing or empty"));
        }
        Ok(sections)
    }
}

fn mapping(value: Value, path: &str) -> Result<Map<String, Value>, TemplateError> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(TemplateError::invalid(path, "a mapping is needed here")),
    }
}

fn read_parameters(
    section: Map<String, Value>,
    values: &BTreeMap<String, String>,
    ignored: &mut Vec<String>,
) -> Result<BTreeMap<String, Parameter>, TemplateError> {
    let mut parameters = BTreeMap::new();
    for (name, value) in section {
        let path = format!("Parameters.{name}");
        let given = read_properties::<read::ParameterSection>("Parameter", value, &path, ignored)?;
        if !["String", "Number"].contains(&given.r#type.as_str()) {
            return Err(TemplateError::unknown_name(format!("{path}.Type"), "parameter type", given.r#type)
                .knowing(["Number", "String"]));
        }
        let default = given.default.as_ref().map(|text| text.0.clone());
        let value = values.get(&name).cloned().or_else(|| default.clone());
        if let Some(value) = &value {
            check_parameter(&given, value).map_err(|message| TemplateError::invalid(&path, message))?;
        }
        let parameter = Parameter {
            default,
            value,
            description: given.description.unwrap_or_default(),
            allowed_values: given.allowed_values.into_iter().map(|text| text.0).collect(),
            numeric: given.r#type == "Number",
            no_echo: given.no_echo.0,
        };
        parameters.insert(name, parameter);
    }
    if let Some(name) = values.keys().find(|name| !parameters.contains_key(*name)) {
        return Err(TemplateError::unknown(format!("Parameters.{name}"), "parameter").knowing(parameters.into_keys()));
    }
    Ok(parameters)
}

fn check_parameter(given: &read::ParameterSection, value: &str) -> Result<(), String> {
    if !given.allowed_values.is_empty() && !given.allowed_values.iter().any(|allowed| allowed.0 == value) {
        let allowed: Vec<&str> = given.allowed_values.iter().map(|text| text.0.as_str()).collect();
        return Err(format!("`{value}` is none of {}", allowed.join(", ")));
    }
    let length = value.chars().count() as u64;
    if given.min_length.is_some_and(|min| length < min.0) || given.max_length.is_some_and(|max| length > max.0) {
        return Err(format!("`{value}` is too short or too long"));
    }
    if given.r#type == "Number" {
        let number: f64 = value.parse().map_err(|_| format!("`{value}` is no number"))?;
        if given.min_value.is_some_and(|min| number < min.0 as f64)
            || given.max_value.is_some_and(|max| number > max.0 as f64)
        {
            return Err(format!("`{value}` is out of range"));
        }
    }
    Ok(())
}

/// A resource with its functions resolved.
struct Resource {
    id: String,
    kind: String,
    /// Path of its properties.
    path: String,
    properties: Value,
}

struct Reader<'a> {
    names: Names<'a>,
    topology: Topology,
    /// Integration → function.
    integrations: BTreeMap<String, String>,
    apis: BTreeSet<String>,
    ignored: Vec<String>,
}

impl<'a> Reader<'a> {
    fn new(
        sections: &'a Sections,
        parameters: BTreeMap<String, Parameter>,
        ignored: Vec<String>,
    ) -> Result<Self, TemplateError> {
        let mut kinds = BTreeMap::new();
        let mut conditional = Vec::new();
        for (id, resource) in &sections.resources {
            let path = format!("Resources.{id}");
            if !id.chars().all(|c| c.is_ascii_alphanumeric()) || id.is_empty() {
                return Err(TemplateError::invalid(path, "a logical id has only letters and digits"));
            }
            if parameters.contains_key(id) {
                return Err(TemplateError::invalid(path, "a parameter has the same name"));
            }
            let Some(kind) = resource.get("Type").and_then(Value::as_str) else {
                return Err(TemplateError::invalid(path, "has no `Type`"));
            };
            kinds.insert(id.clone(), kind.to_owned());
            match resource.get("Condition") {
                None => {}
                Some(Value::String(name)) => conditional.push((id.clone(), name.clone())),
                Some(_) => {
                    return Err(TemplateError::invalid(format!("{path}.Condition"), "is not the name of a condition"));
                }
            }
        }
        let mut names = Names {
            parameters: parameters.iter().map(|(name, parameter)| (name.clone(), parameter.value.clone())).collect(),
            resources: kinds,
            left_out: BTreeSet::new(),
            conditions: &sections.conditions,
            mappings: &sections.mappings,
            decided: RefCell::default(),
        };
        for name in sections.conditions.keys() {
            names.condition(name, &format!("Conditions.{name}"))?;
        }
        for (id, condition) in conditional {
            if !names.condition(&condition, &format!("Resources.{id}.Condition"))? {
                names.left_out.insert(id);
            }
        }
        let topology = Topology { parameters, ..Topology::default() };
        Ok(Self { names, topology, integrations: BTreeMap::new(), apis: BTreeSet::new(), ignored })
    }

    fn read(mut self, sections: &Sections) -> Result<Topology, TemplateError> {
        let globals = self.globals(&sections.globals)?;
        let mut resources = Vec::new();
        for (id, value) in &sections.resources {
            if !self.names.left_out.contains(id) {
                resources.push(self.resource(id, value)?);
            }
        }
        // What others point at comes first, so that each pointer can be checked where it stands.
        resources.sort_by_key(|resource| (order(&resource.kind), resource.id.clone()));
        for resource in &resources {
            if resource.kind == "AWS::SQS::Queue" {
                self.queue(resource)?;
            }
        }
        for resource in resources {
            self.take(resource, &globals)?;
        }
        self.check_dead_letters()?;
        self.outputs(&sections.outputs)?;
        self.ignored.sort();
        self.topology.ignored = self.ignored;
        Ok(self.topology)
    }

    /// `Globals.Function`, resolved.
    fn globals(&mut self, globals: &Value) -> Result<Map<String, Value>, TemplateError> {
        if globals.is_null() {
            return Ok(Map::new());
        }
        let resolved = self.names.resolve(globals, &mut "Globals".to_owned())?.unwrap_or_default();
        let mut function = Map::new();
        for (name, value) in mapping(resolved, "Globals")? {
            if name != "Function" {
                return Err(TemplateError::unknown(format!("Globals.{name}"), "section").knowing(["Function"]));
            }
            // Read once here, so that a mistake is reported where it stands and not in every function.
            let path = "Globals.Function";
            let mut not_read = Vec::new();
            let read: read::FunctionProperties =
                read_properties("AWS::Serverless::Function", value.clone(), path, &mut not_read)?;
            if read.code_uri.is_some() || !read.events.is_empty() {
                return Err(TemplateError::invalid(path, "`CodeUri` and `Events` belong to one function"));
            }
            self.ignored.append(&mut not_read);
            function = mapping(value, path)?;
        }
        // The places of what is not read are known by now.
        let names = IGNORED_PROPERTIES
            .iter()
            .find(|(kind, _)| *kind == "AWS::Serverless::Function")
            .map_or(&[][..], |(_, names)| names);
        function.retain(|name, _| !names.contains(&name.as_str()));
        Ok(function)
    }

    fn resource(&mut self, id: &str, value: &Value) -> Result<Resource, TemplateError> {
        const KNOWN: [&str; 7] =
            ["Condition", "DeletionPolicy", "DependsOn", "Metadata", "Properties", "Type", "UpdateReplacePolicy"];
        let path = format!("Resources.{id}");
        let map = mapping(value.clone(), &path)?;
        let mut kind = String::new();
        let mut properties = Value::Null;
        for (name, value) in map {
            match name.as_str() {
                "Type" => kind = self.names.resources.get(id).cloned().unwrap_or_default(),
                "Condition" => {}
                "DeletionPolicy" | "UpdateReplacePolicy" | "Metadata" => self.ignored.push(format!("{path}.{name}")),
                "DependsOn" => {
                    let targets = match &value {
                        Value::Array(items) => items.iter().map(Value::as_str).collect(),
                        one => vec![one.as_str()],
                    };
                    for target in targets {
                        let known = target.is_some_and(|target| self.names.resources.contains_key(target));
                        if !known {
                            let message = format!("there is no resource `{}`", target.unwrap_or("?"));
                            return Err(TemplateError::unresolved(format!("{path}.{name}"), message));
                        }
                    }
                    self.ignored.push(format!("{path}.{name}"));
                }
                "Properties" => {
                    properties = self.names.resolve(&value, &mut format!("{path}.Properties"))?.unwrap_or_default();
                }
                _ => {
                    return Err(
                        TemplateError::unknown(format!("{path}.{name}"), "attribute of a resource").knowing(KNOWN)
                    );
                }
            }
        }
        Ok(Resource { id: id.to_owned(), kind, path: format!("{path}.Properties"), properties })
    }

    fn take(&mut self, resource: Resource, globals: &Map<String, Value>) -> Result<(), TemplateError> {
        match resource.kind.as_str() {
            "AWS::SQS::Queue" => Ok(()),
            "AWS::SQS::QueuePolicy" => self.queue_policy(resource),
            "AWS::SNS::Topic" => {
                let _: read::TopicProperties = self.properties(&resource)?;
                self.topology.topics.insert(resource.id);
                Ok(())
            }
            "AWS::SNS::Subscription" => self.subscription(resource),
            "AWS::DynamoDB::Table" => self.table(resource),
            "AWS::S3::Bucket" => {
                let _: read::BucketProperties = self.properties(&resource)?;
                self.topology.buckets.insert(resource.id, Bucket {});
                Ok(())
            }
            "AWS::Serverless::Function" => self.function(resource, globals),
            "AWS::ApiGatewayV2::Api" => self.api(resource),
            "AWS::ApiGatewayV2::Stage" => self.stage(resource),
            "AWS::ApiGatewayV2::Integration" => self.integration(resource),
            "AWS::ApiGatewayV2::Route" => self.route(resource),
            "AWS::Lambda::Permission" => self.permission(resource),
            "AWS::CloudWatch::Alarm" => self.alarm(resource),
            _ => self.ignored_type(resource),
        }
    }

    fn properties<T: serde::de::DeserializeOwned>(&mut self, resource: &Resource) -> Result<T, TemplateError> {
        read_properties(&resource.kind, resource.properties.clone(), &resource.path, &mut self.ignored)
    }

    fn ignored_type(&mut self, resource: Resource) -> Result<(), TemplateError> {
        let Some(known) = IGNORED_TYPES.iter().find(|known| known.kind == resource.kind) else {
            let path = format!("Resources.{}.Type", resource.id);
            return Err(TemplateError::unknown_name(path, "resource type", resource.kind));
        };
        if let Value::Object(map) = &resource.properties
            && let Some(name) = map.keys().find(|name| !known.properties.contains(&name.as_str()))
        {
            return Err(TemplateError::unknown(format!("{}.{name}", resource.path), "property")
                .knowing(known.properties.iter().copied()));
        }
        self.ignored.push(format!("Resources.{}", resource.id));
        Ok(())
    }

    fn queue(&mut self, resource: &Resource) -> Result<(), TemplateError> {
        let path = &resource.path;
        let read: read::QueueProperties = self.properties(resource)?;
        let dead_letter = match read.redrive_policy {
            None => None,
            Some(policy) => {
                let inner = format!("{path}.RedrivePolicy.maxReceiveCount");
                let max_receive_count = within_limit(policy.max_receive_count, limit::RECEIVE_COUNT, &inner)?;
                Some(DeadLetter { queue: policy.dead_letter_target_arn, max_receive_count })
            }
        };
        let visibility = or_default(read.visibility_timeout, 30, limit::VISIBILITY_S, path, "VisibilityTimeout")?;
        let retention =
            or_default(read.message_retention_period, 345_600, limit::RETENTION_S, path, "MessageRetentionPeriod")?;
        let queue = Queue {
            visibility: Duration::from_secs(visibility.into()),
            retention: Duration::from_secs(retention.into()),
            dead_letter,
        };
        self.topology.queues.insert(resource.id.clone(), queue);
        Ok(())
    }

    fn check_dead_letters(&self) -> Result<(), TemplateError> {
        for (id, queue) in &self.topology.queues {
            let Some(dead_letter) = &queue.dead_letter else { continue };
            let path = format!("Resources.{id}.Properties.RedrivePolicy.deadLetterTargetArn");
            self.existing_queue(&dead_letter.queue, &path)?;
            if dead_letter.queue == *id {
                return Err(TemplateError::invalid(path, "a queue cannot be its own dead-letter queue"));
            }
        }
        Ok(())
    }

    fn existing_queue(&self, id: &str, path: &str) -> Result<(), TemplateError> {
        existing(self.topology.queues.contains_key(id), "queue", id, path)
    }

    fn queue_policy(&mut self, resource: Resource) -> Result<(), TemplateError> {
        let read: read::QueuePolicyProperties = self.properties(&resource)?;
        if !read.policy_document.is_object() {
            let path = format!("{}.PolicyDocument", resource.path);
            return Err(TemplateError::invalid(path, "a mapping is needed here"));
        }
        for (index, queue) in read.queues.into_iter().enumerate() {
            self.existing_queue(&queue, &format!("{}.Queues[{index}]", resource.path))?;
            self.topology.queues_with_policy.insert(queue);
        }
        self.ignored.push(format!("{}.PolicyDocument", resource.path));
        Ok(())
    }

    fn subscription(&mut self, resource: Resource) -> Result<(), TemplateError> {
        let path = &resource.path;
        let read: read::SubscriptionProperties = self.properties(&resource)?;
        existing(
            self.topology.topics.contains(&read.topic_arn),
            "topic",
            &read.topic_arn,
            &format!("{path}.TopicArn"),
        )?;
        only(&read.protocol, &["email", "sqs"], path, "Protocol")?;
        if read.protocol == "email" {
            // A person is told by AWS itself; on one machine the console shows what is wrong.
            self.ignored.push(format!("Resources.{}", resource.id));
            return Ok(());
        }
        self.existing_queue(&read.endpoint, &format!("{path}.Endpoint"))?;
        if let Some(scope) = &read.filter_policy_scope {
            only(scope, &["MessageAttributes"], path, "FilterPolicyScope")?;
        }
        let mut filter = Filter::default();
        for (attribute, patterns) in read.filter_policy {
            let path = format!("{path}.FilterPolicy.{attribute}");
            if patterns.is_empty() {
                return Err(TemplateError::invalid(path, "an empty list lets nothing pass"));
            }
            let patterns: Result<Vec<_>, _> = patterns
                .iter()
                .enumerate()
                .map(|(index, pattern)| read_pattern(pattern, &format!("{path}[{index}]")))
                .collect();
            filter.attributes.insert(attribute, patterns?);
        }
        let dead_letter = read.redrive_policy.map(|policy| policy.dead_letter_target_arn);
        if let Some(queue) = &dead_letter {
            self.existing_queue(queue, &format!("{path}.RedrivePolicy.deadLetterTargetArn"))?;
        }
        let subscription = Subscription {
            topic: read.topic_arn,
            queue: read.endpoint,
            raw: read.raw_message_delivery.0,
            filter,
            dead_letter,
        };
        self.topology.subscriptions.insert(resource.id, subscription);
        Ok(())
    }

    fn table(&mut self, resource: Resource) -> Result<(), TemplateError> {
        let path = &resource.path;
        let read: read::TableProperties = self.properties(&resource)?;
        for (index, attribute) in read.attribute_definitions.iter().enumerate() {
            only(&attribute.attribute_type, &["S"], &format!("{path}.AttributeDefinitions[{index}]"), "AttributeType")?;
        }
        let key = |kind: &str| {
            let element = read.key_schema.iter().find(|element| element.key_type == kind);
            let name = element.map(|element| element.attribute_name.clone());
            let name = name
                .filter(|name| read.attribute_definitions.iter().any(|attribute| attribute.attribute_name == *name));
            name.ok_or_else(|| {
                TemplateError::invalid(format!("{path}.KeySchema"), format!("needs a defined `{kind}` key"))
            })
        };
        if read.key_schema.len() != 2 {
            return Err(TemplateError::invalid(format!("{path}.KeySchema"), "needs a `HASH` and a `RANGE` key"));
        }
        let ttl = read.time_to_live_specification.filter(|ttl| ttl.enabled.0).map(|ttl| ttl.attribute_name);
        let table = Table { partition_key: key("HASH")?, sort_key: key("RANGE")?, ttl_attribute: ttl };
        self.topology.tables.insert(resource.id, table);
        Ok(())
    }

    fn function(&mut self, mut resource: Resource, globals: &Map<String, Value>) -> Result<(), TemplateError> {
        // Read alone first, so that a mistake is reported where it stands; then with the globals under it.
        let mut ignored = Vec::new();
        let _: read::FunctionProperties =
            read_properties(&resource.kind, resource.properties.clone(), &resource.path, &mut ignored)?;
        let mut merged = Value::Object(globals.clone());
        merge(&mut merged, resource.properties.take());
        resource.properties = merged;
        let path = &resource.path;
        let read: read::FunctionProperties = self.properties(&resource)?;
        let Some(code_uri) = read.code_uri else {
            return Err(TemplateError::invalid(path, "has no `CodeUri`"));
        };
        let verb = code_uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        if verb.is_empty() || !verb.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
            return Err(TemplateError::invalid(
                format!("{path}.CodeUri"),
                format!("`{code_uri}` does not end with a stage's name"),
            ));
        }
        if let Some((other, _)) = self.topology.function_of(&verb) {
            return Err(TemplateError::invalid(format!("{path}.CodeUri"), format!("`{other}` is `{verb}` already")));
        }
        let timeout = or_default(read.timeout, 3, limit::FUNCTION_TIMEOUT_S, path, "Timeout")?;
        let mut triggers = Vec::new();
        for (name, event) in read.events {
            let path = format!("{path}.Events.{name}");
            triggers.push(self.trigger(name, event, &path)?);
        }
        let function = Function {
            verb,
            code_uri,
            timeout: Duration::from_secs(timeout.into()),
            memory_mib: or_default(read.memory_size, 128, limit::MEMORY_MIB, path, "MemorySize")?,
            environment: read.environment.variables.into_iter().map(|(name, Text(value))| (name, value)).collect(),
            triggers,
        };
        self.topology.functions.insert(resource.id, function);
        Ok(())
    }

    fn trigger(&mut self, name: String, event: read::Event, path: &str) -> Result<Trigger, TemplateError> {
        let inner = format!("{path}.Properties");
        match event.r#type.as_str() {
            "SQS" => {
                let read: read::SqsEvent = read_properties("SQS", event.properties, &inner, &mut self.ignored)?;
                self.existing_queue(&read.queue, &format!("{inner}.Queue"))?;
                let batch_size = or_default(read.batch_size, 10, limit::BATCH_SIZE, &inner, "BatchSize")?;
                let window_path = "MaximumBatchingWindowInSeconds";
                let window =
                    or_default(read.maximum_batching_window_in_seconds, 0, limit::WINDOW_S, &inner, window_path)?;
                if u64::from(batch_size) > limit::BATCH_WITHOUT_WINDOW && window == 0 {
                    let message = format!("more than {} needs a `{window_path}`", limit::BATCH_WITHOUT_WINDOW);
                    return Err(TemplateError::invalid(format!("{inner}.BatchSize"), message));
                }
                for (index, kind) in read.function_response_types.iter().enumerate() {
                    only(kind, &["ReportBatchItemFailures"], &inner, &format!("FunctionResponseTypes[{index}]"))?;
                }
                let max_concurrency = match read.scaling_config {
                    None => None,
                    Some(config) => {
                        let path = format!("{inner}.ScalingConfig.MaximumConcurrency");
                        Some(within_limit(config.maximum_concurrency, limit::CONCURRENCY, &path)?)
                    }
                };
                Ok(Trigger::Queue {
                    name,
                    queue: read.queue,
                    batch_size,
                    window: Duration::from_secs(window.into()),
                    partial_failures: !read.function_response_types.is_empty(),
                    max_concurrency,
                    enabled: read.enabled.unwrap_or(Flag(true)).0,
                })
            }
            "ScheduleV2" => {
                let read: read::ScheduleEvent =
                    read_properties("ScheduleV2", event.properties, &inner, &mut self.ignored)?;
                let every = read_rate(&read.schedule_expression)
                    .map_err(|message| TemplateError::invalid(format!("{inner}.ScheduleExpression"), message))?;
                let input = match &read.input {
                    None => Value::Object(Map::new()),
                    Some(text) => serde_json::from_str(text).map_err(|error| {
                        TemplateError::invalid(format!("{inner}.Input"), format!("is not JSON: {error}"))
                    })?,
                };
                let state = read.state.as_deref().unwrap_or("ENABLED");
                only(state, &["DISABLED", "ENABLED"], &inner, "State")?;
                Ok(Trigger::Schedule { name, every, input, enabled: state == "ENABLED" })
            }
            other => Err(TemplateError::unknown_name(format!("{path}.Type"), "event source", other)
                .knowing(["SQS", "ScheduleV2"])),
        }
    }

    fn api(&mut self, resource: Resource) -> Result<(), TemplateError> {
        let read: read::ApiProperties = self.properties(&resource)?;
        only(&read.protocol_type, &["HTTP"], &resource.path, "ProtocolType")?;
        self.apis.insert(resource.id);
        Ok(())
    }

    fn existing_api(&self, id: &str, path: &str) -> Result<(), TemplateError> {
        existing(self.apis.contains(id), "HTTP API", id, &format!("{path}.ApiId"))
    }

    fn stage(&mut self, resource: Resource) -> Result<(), TemplateError> {
        let read: read::StageProperties = self.properties(&resource)?;
        self.existing_api(&read.api_id, &resource.path)?;
        // A named stage would put its name before every path.
        only(&read.stage_name, &["$default"], &resource.path, "StageName")
    }

    fn integration(&mut self, resource: Resource) -> Result<(), TemplateError> {
        let path = &resource.path;
        let read: read::IntegrationProperties = self.properties(&resource)?;
        self.existing_api(&read.api_id, path)?;
        only(&read.integration_type, &["AWS_PROXY"], path, "IntegrationType")?;
        only(read.integration_method.as_deref().unwrap_or("POST"), &["POST"], path, "IntegrationMethod")?;
        let version = read.payload_format_version.map(|text| text.0).unwrap_or_default();
        only(&version, &["2.0"], path, "PayloadFormatVersion")?;
        // Either the function's own ARN, or `arn:…:lambda:path/2015-03-31/functions/ARN/invocations`.
        let uri = read.integration_uri;
        let function =
            uri.split_once("/functions/").and_then(|(_, rest)| rest.strip_suffix("/invocations")).unwrap_or(&uri);
        existing(
            self.topology.functions.contains_key(function),
            "function",
            function,
            &format!("{path}.IntegrationUri"),
        )?;
        self.integrations.insert(resource.id, function.to_owned());
        Ok(())
    }

    fn route(&mut self, resource: Resource) -> Result<(), TemplateError> {
        let path = &resource.path;
        let read: read::RouteProperties = self.properties(&resource)?;
        self.existing_api(&read.api_id, path)?;
        let target = read
            .target
            .ok_or_else(|| TemplateError::invalid(path, "the route has no integration: `Target` is missing"))?;
        let Some(integration) = target.strip_prefix("integrations/") else {
            return Err(TemplateError::invalid(
                format!("{path}.Target"),
                format!("`{target}` is not `integrations/` and an integration"),
            ));
        };
        let Some(function) = self.integrations.get(integration) else {
            return Err(TemplateError::unresolved(
                format!("{path}.Target"),
                format!("there is no integration `{integration}`"),
            ));
        };
        if let Some(other) = self.topology.routes.iter().find(|other| other.key == read.route_key) {
            return Err(TemplateError::invalid(format!("{path}.RouteKey"), format!("`{}` has the same key", other.id)));
        }
        let route = Route::new(resource.id.clone(), read.route_key, function.clone())
            .map_err(|message| TemplateError::invalid(format!("{path}.RouteKey"), message))?;
        self.topology.routes.push(route);
        Ok(())
    }

    fn permission(&mut self, resource: Resource) -> Result<(), TemplateError> {
        let path = &resource.path;
        let read: read::PermissionProperties = self.properties(&resource)?;
        only(&read.action, &["lambda:InvokeFunction"], path, "Action")?;
        let function = read.function_name;
        existing(
            self.topology.functions.contains_key(&function),
            "function",
            &function,
            &format!("{path}.FunctionName"),
        )?;
        self.topology.permissions.insert(resource.id, Permission { function, principal: read.principal });
        Ok(())
    }

    fn alarm(&mut self, resource: Resource) -> Result<(), TemplateError> {
        let path = &resource.path;
        let read: read::AlarmProperties = self.properties(&resource)?;
        // A metric of the product itself is told by stack and stage.
        let (at, subject) = match read.dimensions.as_slice() {
            [only] => (0, only),
            [stack, stage] if stack.name == "Stack" => (1, stage),
            _ => {
                let what = "either one dimension is needed here, or `Stack` and `Stage`";
                return Err(TemplateError::invalid(format!("{path}.Dimensions"), what));
            }
        };
        let place = format!("{path}.Dimensions[{at}]");
        let verb = self.topology.function_of(&subject.value).map(|(id, _)| id.to_owned());
        let (namespace, what, there) = match subject.name.as_str() {
            "QueueName" => ("AWS/SQS", "queue", self.topology.queues.contains_key(&subject.value)),
            "FunctionName" => ("AWS/Lambda", "function", self.topology.functions.contains_key(&subject.value)),
            "ApiId" => ("AWS/ApiGateway", "HTTP API", self.apis.contains(&subject.value)),
            "Stage" if at == 1 => ("Sluice", "stage", verb.is_some()),
            other => {
                return Err(TemplateError::unknown_name(format!("{place}.Name"), "value", other).knowing([
                    "ApiId",
                    "FunctionName",
                    "QueueName",
                    "Stage",
                ]));
            }
        };
        only(&read.namespace, &[namespace], path, "Namespace")?;
        existing(there, what, &subject.value, &format!("{place}.Value"))?;
        for (index, topic) in read.alarm_actions.iter().enumerate() {
            let path = format!("{path}.AlarmActions[{index}]");
            existing(self.topology.topics.contains(topic), "topic", topic, &path)?;
        }
        let subject = if at == 1 { verb.unwrap_or_default() } else { subject.value.clone() };
        let alarm = Alarm { metric: read.metric_name, subject, topics: read.alarm_actions };
        self.topology.alarms.insert(resource.id, alarm);
        Ok(())
    }

    fn outputs(&self, outputs: &Map<String, Value>) -> Result<(), TemplateError> {
        const KNOWN: [&str; 4] = ["Condition", "Description", "Export", "Value"];
        for (name, output) in outputs {
            let path = format!("Outputs.{name}");
            let output = mapping(output.clone(), &path)?;
            if let Some(key) = output.keys().find(|key| !KNOWN.contains(&key.as_str())) {
                return Err(TemplateError::unknown(format!("{path}.{key}"), "property").knowing(KNOWN));
            }
            let wanted = match output.get("Condition").and_then(Value::as_str) {
                Some(condition) => self.names.condition(condition, &format!("{path}.Condition"))?,
                None => true,
            };
            let Some(value) = output.get("Value") else {
                return Err(TemplateError::invalid(path, "has no `Value`"));
            };
            if wanted {
                self.names.resolve(value, &mut format!("{path}.Value"))?;
            }
        }
        Ok(())
    }
}

/// The order in which resources are taken: what others point at first.
fn order(kind: &str) -> u8 {
    match kind {
        "AWS::SNS::Topic" | "AWS::SQS::Queue" | "AWS::ApiGatewayV2::Api" => 0,
        "AWS::Serverless::Function" => 1,
        "AWS::ApiGatewayV2::Integration" => 2,
        _ => 3,
    }
}

/// SAM's rule: mappings are merged, lists appended, the function's own scalar wins.
fn merge(base: &mut Value, own: Value) {
    match (base, own) {
        (Value::Object(base), Value::Object(own)) => {
            for (key, value) in own {
                match base.get_mut(&key) {
                    Some(under) => merge(under, value),
                    None => {
                        base.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(base), Value::Array(own)) => base.extend(own),
        (base, own) => *base = own,
    }
}

fn existing(there: bool, what: &str, id: &str, path: &str) -> Result<(), TemplateError> {
    if there { Ok(()) } else { Err(TemplateError::unresolved(path, format!("there is no {what} `{id}`"))) }
}

fn only(value: &str, known: &[&str], path: &str, property: &str) -> Result<(), TemplateError> {
    if known.contains(&value) {
        return Ok(());
    }
    Err(TemplateError::unknown_name(format!("{path}.{property}"), "value", value).knowing(known.iter().copied()))
}

fn or_default(
    value: Option<Whole>,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    path: &str,
    property: &str,
) -> Result<u32, TemplateError> {
    within_limit(value.unwrap_or(Whole(default)), range, &format!("{path}.{property}"))
}

fn within_limit(value: Whole, range: std::ops::RangeInclusive<u64>, path: &str) -> Result<u32, TemplateError> {
    let number = u32::try_from(value.0).ok().filter(|number| range.contains(&u64::from(*number)));
    number.ok_or_else(|| {
        TemplateError::invalid(path, format!("`{}` is not between {} and {}", value.0, range.start(), range.end()))
    })
}

fn read_pattern(pattern: &Value, path: &str) -> Result<Pattern, TemplateError> {
    if let Value::String(text) = pattern {
        return Ok(Pattern::Exact(text.clone()));
    }
    let entry = pattern.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next());
    match entry {
        Some((name, Value::String(text))) if name == "prefix" => Ok(Pattern::Prefix(text.clone())),
        Some((name, Value::Bool(flag))) if name == "exists" => Ok(Pattern::Exists(*flag)),
        Some((name, _)) => {
            Err(TemplateError::unknown_name(path, "filter operator", name).knowing(["exists", "prefix"]))
        }
        None => Err(TemplateError::invalid(path, "a text or one operator is needed here")),
    }
}

/// `rate(N minutes)` as EventBridge Scheduler has it. `cron(…)` and `at(…)` are not known to the one-machine runtime.
fn read_rate(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not known; `rate(N minutes)`, `hours` or `days` is");
    let inside = text.strip_prefix("rate(").and_then(|rest| rest.strip_suffix(')')).ok_or_else(wrong)?;
    let (number, unit) = inside.split_once(' ').ok_or_else(wrong)?;
    let number: u32 = number.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
    let minutes = match unit {
        "minute" | "minutes" => 1,
        "hour" | "hours" => 60,
        "day" | "days" => 24 * 60,
        _ => return Err(wrong()),
    };
    Ok(Duration::from_secs(u64::from(number) * minutes * 60))
}
