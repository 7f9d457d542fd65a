//! The parts of the template that are read, in the template's own words. What is accepted and not read stands in `known.rs` and is taken
//! away before these are filled; whatever is left over is an error.

use crate::TemplateError;
use crate::known::IGNORED_PROPERTIES;
use crate::scalar::{Flag, Text, Whole};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Section `Parameters`, one entry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ParameterSection {
    pub r#type: String,
    pub default: Option<Text>,
    pub description: Option<String>,
    #[serde(default)]
    pub allowed_values: Vec<Text>,
    pub min_value: Option<Whole>,
    pub max_value: Option<Whole>,
    pub min_length: Option<Whole>,
    pub max_length: Option<Whole>,
    #[serde(default)]
    pub no_echo: Flag,
}

/// `AWS::Serverless::Function`, and the same under `Globals`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct FunctionProperties {
    pub code_uri: Option<String>,
    pub timeout: Option<Whole>,
    pub memory_size: Option<Whole>,
    #[serde(default)]
    pub environment: Environment,
    #[serde(default)]
    pub events: BTreeMap<String, Event>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct Environment {
    #[serde(default)]
    pub variables: BTreeMap<String, Text>,
}

/// An event source of a function; its properties are read by type.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct Event {
    pub r#type: String,
    #[serde(default)]
    pub properties: Value,
}

/// SAM event `SQS`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct SqsEvent {
    pub queue: String,
    pub batch_size: Option<Whole>,
    pub maximum_batching_window_in_seconds: Option<Whole>,
    #[serde(default)]
    pub function_response_types: Vec<String>,
    pub scaling_config: Option<ScalingConfig>,
    pub enabled: Option<Flag>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ScalingConfig {
    pub maximum_concurrency: Whole,
}

/// SAM event `ScheduleV2`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ScheduleEvent {
    pub schedule_expression: String,
    pub input: Option<String>,
    pub state: Option<String>,
}

/// `AWS::SQS::Queue`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct QueueProperties {
    pub visibility_timeout: Option<Whole>,
    pub message_retention_period: Option<Whole>,
    pub redrive_policy: Option<QueueRedrivePolicy>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct QueueRedrivePolicy {
    pub dead_letter_target_arn: String,
    pub max_receive_count: Whole,
}

/// `AWS::SQS::QueuePolicy`: only which queues have one is read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct QueuePolicyProperties {
    pub queues: Vec<String>,
    pub policy_document: Value,
}

/// `AWS::SNS::Topic`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct TopicProperties {}

/// `AWS::SNS::Subscription`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct SubscriptionProperties {
    pub topic_arn: String,
    pub protocol: String,
    pub endpoint: String,
    #[serde(default)]
    pub raw_message_delivery: Flag,
    #[serde(default)]
    pub filter_policy: BTreeMap<String, Vec<Value>>,
    pub filter_policy_scope: Option<String>,
    pub redrive_policy: Option<SubscriptionRedrivePolicy>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct SubscriptionRedrivePolicy {
    pub dead_letter_target_arn: String,
}

/// `AWS::ApiGatewayV2::Api`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ApiProperties {
    pub protocol_type: String,
}

/// `AWS::ApiGatewayV2::Stage`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct StageProperties {
    pub api_id: String,
    pub stage_name: String,
}

/// `AWS::ApiGatewayV2::Integration`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct IntegrationProperties {
    pub api_id: String,
    pub integration_type: String,
    pub integration_uri: String,
    pub integration_method: Option<String>,
    pub payload_format_version: Option<Text>,
}

/// `AWS::ApiGatewayV2::Route`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct RouteProperties {
    pub api_id: String,
    pub route_key: String,
    pub target: Option<String>,
}

/// `AWS::Lambda::Permission`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct PermissionProperties {
    pub action: String,
    pub function_name: String,
    pub principal: String,
}

/// `AWS::CloudWatch::Alarm`: what is watched and who is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct AlarmProperties {
    pub namespace: String,
    pub metric_name: String,
    pub dimensions: Vec<AlarmDimension>,
    pub alarm_actions: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct AlarmDimension {
    pub name: String,
    pub value: String,
}

/// `AWS::DynamoDB::Table`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct TableProperties {
    pub attribute_definitions: Vec<AttributeDefinition>,
    pub key_schema: Vec<KeyElement>,
    pub time_to_live_specification: Option<TimeToLive>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct AttributeDefinition {
    pub attribute_name: String,
    pub attribute_type: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct KeyElement {
    pub attribute_name: String,
    pub key_type: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct TimeToLive {
    pub attribute_name: String,
    pub enabled: Flag,
}

/// `AWS::S3::Bucket`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct BucketProperties {}

/// Fills a struct from what stands at `path`; an error names the place inside it.
pub(crate) fn read<T: DeserializeOwned>(value: Value, path: &str) -> Result<T, TemplateError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let inner = error.path().to_string();
        let place = match inner.as_str() {
            "." => path.to_owned(),
            inner if inner.starts_with('[') => format!("{path}{inner}"),
            inner => format!("{path}.{inner}"),
        };
        let message = error.inner().to_string();
        if message.starts_with("unknown field") {
            // serde writes: unknown field `x`, expected one of `a`, `b`
            let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
            return TemplateError::unknown(place, "property").knowing(known);
        }
        TemplateError::invalid(place, message)
    })
}

/// Fills a struct from the properties of a resource or event, after taking away what is accepted and not read; the places of that are
/// appended to `ignored`.
pub(crate) fn read_properties<T: DeserializeOwned>(
    kind: &str,
    properties: Value,
    path: &str,
    ignored: &mut Vec<String>,
) -> Result<T, TemplateError> {
    let mut map = match properties {
        Value::Object(map) => map,
        Value::Null => Map::new(),
        _ => return Err(TemplateError::invalid(path, "a mapping is needed here")),
    };
    let names = IGNORED_PROPERTIES.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, names)| names);
    for name in names {
        if map.remove(*name).is_some() {
            ignored.push(format!("{path}.{name}"));
        }
    }
    read(Value::Object(map), path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_unknown_property_names_its_place_and_what_is_known_there() {
        let error = read::<TimeToLive>(json!({"AttributeName": "a", "Enabled": true, "Foo": 1}), "R.P").unwrap_err();
        assert_eq!(error.to_string(), "R.P.Foo: unknown property (known here: AttributeName, Enabled)");
    }

    #[test]
    fn an_unknown_property_deep_inside_names_its_place() {
        let error = read::<TableProperties>(
            json!({"AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S", "Foo": 1}], "KeySchema": []}),
            "R.P",
        )
        .unwrap_err();
        assert!(error.to_string().starts_with("R.P.AttributeDefinitions[0].Foo: unknown property"), "{error}");
    }

    #[test]
    fn a_wrong_form_names_its_place() {
        let error = read::<QueueProperties>(json!({"VisibilityTimeout": "soon"}), "R.P").unwrap_err();
        assert_eq!(error.to_string(), "R.P.VisibilityTimeout: `soon` is no whole number");
        let error = read::<SqsEvent>(json!({}), "R.P").unwrap_err();
        assert_eq!(error.to_string(), "R.P: missing field `Queue`");
    }

    #[test]
    fn what_is_not_read_is_taken_away_and_its_place_kept() {
        let mut ignored = Vec::new();
        let properties = json!({"Tags": [], "VisibilityTimeout": 30});
        let queue: QueueProperties = read_properties("AWS::SQS::Queue", properties, "R.P", &mut ignored).unwrap();
        assert_eq!(queue.visibility_timeout, Some(Whole(30)));
        assert_eq!(ignored, ["R.P.Tags"]);
        let error = read_properties::<QueueProperties>("AWS::SQS::Queue", json!([]), "R.P", &mut ignored).unwrap_err();
        assert_eq!(error.to_string(), "R.P: a mapping is needed here");
    }
}
