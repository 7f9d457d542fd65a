//! The whole way from text to topology: every kind of thing that a template may name, and every error with its place.

use proptest::prelude::*;
use sluice_template::{Alarm, DeadLetter, Filter, Pattern, TemplateError, Topology, Trigger};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A template with one of each thing.
const SMALL: &str = include_str!("small.yaml");
/// The template of this project.
const REAL: &str = include_str!("../../../template.yaml");

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// The small template with one piece of its text replaced.
fn edited(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "the small template has no `{from}`");
    SMALL.replacen(from, to, 1)
}

/// The error of the small template with one piece of its text replaced.
fn error(from: &str, to: &str) -> TemplateError {
    match Topology::parse(&edited(from, to)) {
        Err(error) => error,
        Ok(_) => panic!("`{to}` in the place of `{from}` is accepted"),
    }
}

#[track_caller]
fn says(from: &str, to: &str, message: &str) {
    let said = error(from, to).to_string();
    assert!(said.starts_with(message), "expected: {message}\n     got: {said}");
}

#[test]
fn the_real_template_is_read_without_error() {
    let topology = Topology::parse(REAL).unwrap_or_else(|error| panic!("{error}"));
    let verbs: BTreeSet<&str> = topology.functions.values().map(|function| function.verb.as_str()).collect();
    assert_eq!(
        verbs,
        BTreeSet::from(["api", "commit", "compact", "convert", "detect", "index", "ingest", "notify", "quarantine"])
    );
    let (_, convert) = topology.function_of("convert").unwrap();
    assert_eq!(convert.environment["SLUICE_BUCKET"], "LakeBucket");
    assert_eq!(convert.environment["SLUICE_MAX_EVENTS_PER_REQUEST"], "10000");
    let request = topology.route("POST", "/v1/events").unwrap();
    assert_eq!((request.route_key.as_str(), request.function), ("POST /v1/events", "IngestFunction"));
    let request = topology.route("GET", "/v1/rules/7").unwrap();
    assert_eq!((request.route_key.as_str(), request.function), ("ANY /v1/{proxy+}", "ApiFunction"));
    assert_eq!(request.path_parameters["proxy"], "rules/7");
    assert!(topology.ignored.contains(&"Resources.ConvertRole".to_owned()));
    assert!(topology.ignored.contains(&"Globals.Function.Architectures".to_owned()));
}

#[test]
fn queues_and_their_dead_letters_are_read() {
    let topology = Topology::parse(SMALL).unwrap();
    let queue = &topology.queues["WorkQueue"];
    assert_eq!(queue.visibility, seconds(200));
    assert_eq!(queue.retention, seconds(345_600));
    assert_eq!(queue.dead_letter, Some(DeadLetter { queue: "WorkDeadLetterQueue".into(), max_receive_count: 5 }));
    let plain = &topology.queues["WorkDeadLetterQueue"];
    assert_eq!((plain.visibility, plain.retention), (seconds(30), seconds(345_600)), "the defaults of SQS");
    assert_eq!(topology.queues_with_policy, BTreeSet::from(["WorkQueue".to_owned()]));
    assert_eq!(topology.consumers("WorkQueue"), ["WorkFunction"]);
    assert!(topology.consumers("WorkDeadLetterQueue").is_empty());
}

#[test]
fn functions_get_the_globals_under_their_own_properties() {
    let topology = Topology::parse(SMALL).unwrap();
    let work = &topology.functions["WorkFunction"];
    assert_eq!((work.verb.as_str(), work.code_uri.as_str()), ("work", "functions/work"));
    assert_eq!((work.timeout, work.memory_mib), (seconds(30), 256), "timeout from the globals, memory of its own");
    let expected: BTreeMap<String, String> = [
        ("SLUICE_MODE", "full"),
        ("SLUICE_LIMIT", "7"),
        ("SLUICE_QUEUE", "WorkQueue"),
        ("SLUICE_STACK", "sluice-dev"),
        ("SLUICE_STAGE", "dev"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    assert_eq!(work.environment, expected);
    assert_eq!(
        work.triggers,
        [
            Trigger::Schedule {
                name: "Clock".into(),
                every: seconds(60),
                input: serde_json::json!({"tick": "work"}),
                enabled: true
            },
            Trigger::Queue {
                name: "Messages".into(),
                queue: "WorkQueue".into(),
                batch_size: 100,
                window: seconds(20),
                partial_failures: true,
                max_concurrency: Some(5),
                enabled: true,
            },
        ]
    );
}

#[test]
fn an_event_source_without_options_has_the_defaults_of_the_service() {
    let text = edited(
        "            BatchSize: 100\n            MaximumBatchingWindowInSeconds: 20\n            FunctionResponseTypes: [ReportBatchItemFailures]\n            ScalingConfig: { MaximumConcurrency: 5 }\n",
        "            Enabled: false\n",
    );
    let topology = Topology::parse(&text).unwrap();
    let expected = Trigger::Queue {
        name: "Messages".into(),
        queue: "WorkQueue".into(),
        batch_size: 10,
        window: seconds(0),
        partial_failures: false,
        max_concurrency: None,
        enabled: false,
    };
    assert!(topology.functions["WorkFunction"].triggers.contains(&expected));
}

#[test]
fn subscriptions_are_read_with_filter_and_dead_letters() {
    let topology = Topology::parse(SMALL).unwrap();
    let subscription = &topology.subscriptions["WorkSubscription"];
    assert_eq!((subscription.topic.as_str(), subscription.queue.as_str()), ("Events", "WorkQueue"));
    assert!(subscription.raw);
    assert_eq!(subscription.dead_letter.as_deref(), Some("WorkDeadLetterQueue"));
    let patterns = vec![Pattern::Exact("alert".into()), Pattern::Prefix("al".into()), Pattern::Exists(true)];
    assert_eq!(subscription.filter, Filter { attributes: BTreeMap::from([("areas".into(), patterns)]) });
}

#[test]
fn table_bucket_topic_and_permission_are_read() {
    let topology = Topology::parse(SMALL).unwrap();
    let table = &topology.tables["State"];
    assert_eq!((table.partition_key.as_str(), table.sort_key.as_str()), ("pk", "sk"));
    assert_eq!(table.ttl_attribute.as_deref(), Some("expires_at"));
    assert!(topology.buckets.contains_key("Lake"));
    assert!(topology.topics.contains("Events"));
    assert_eq!(topology.permissions["Permission"].function, "WorkFunction");
    assert_eq!(topology.permissions["Permission"].principal, "apigateway.amazonaws.com");
}

#[test]
fn alarms_say_what_they_watch_and_whom_they_tell() {
    let topology = Topology::parse(SMALL).unwrap();
    let (metric, topics) = ("ApproximateAgeOfOldestMessage".to_owned(), vec!["Events".to_owned()]);
    let alarm = Alarm { metric, subject: "WorkQueue".to_owned(), topics };
    assert_eq!(topology.alarms, BTreeMap::from([("WorkAlarm".to_owned(), alarm)]));
    let with =
        edited("      Dimensions: [{ Name: QueueName", "      Dimensions: [{ Name: A, Value: b }, { Name: QueueName");
    let error = Topology::parse(&with).unwrap_err().to_string();
    assert_eq!(
        error,
        "Resources.WorkAlarm.Properties.Dimensions: either one dimension is needed here, or `Stack` and `Stage`"
    );
    // A metric of the product's own.
    let own = |stage: &str| {
        let dimensions =
            format!("      Dimensions: [{{ Name: Stack, Value: s }}, {{ Name: Stage, Value: {stage} }}]\n      #");
        let own = edited("      Dimensions: [{ Name: QueueName", &format!("{dimensions} [{{ Name: QueueName"));
        Topology::parse(&own.replace("Namespace: AWS/SQS", "Namespace: Sluice"))
    };
    assert_eq!(own("work").unwrap().alarms["WorkAlarm"].subject, "WorkFunction");
    assert_eq!(
        own("nobody").unwrap_err().to_string(),
        "Resources.WorkAlarm.Properties.Dimensions[1].Value: there is no stage `nobody`"
    );
    // What the gateway counts.
    let of_gateway = |id: &str| {
        let edited =
            edited("Name: QueueName, Value: !GetAtt WorkQueue.QueueName", &format!("Name: ApiId, Value: {id}"));
        Topology::parse(&edited.replace("Namespace: AWS/SQS", "Namespace: AWS/ApiGateway"))
    };
    assert_eq!(of_gateway("!Ref Http").unwrap().alarms["WorkAlarm"].subject, "Http");
    assert_eq!(
        of_gateway("!Ref WorkFunction").unwrap_err().to_string(),
        "Resources.WorkAlarm.Properties.Dimensions[0].Value: there is no HTTP API `WorkFunction`"
    );
    says(
        "!GetAtt WorkQueue.QueueName",
        "!Ref WorkFunction",
        "Resources.WorkAlarm.Properties.Dimensions[0].Value: there is no queue `WorkFunction`",
    );
    says(
        "AlarmActions: [!Ref Events]",
        "AlarmActions: [!Ref WorkQueue]",
        "Resources.WorkAlarm.Properties.AlarmActions[0]: there is no topic `WorkQueue`",
    );
}

#[test]
fn a_person_who_is_told_by_mail_is_no_queue() {
    let topology = Topology::parse(SMALL).unwrap();
    assert!(!topology.subscriptions.contains_key("PersonSubscription"));
    assert!(topology.ignored.contains(&"Resources.PersonSubscription".to_owned()));
}

#[test]
fn routes_lead_to_functions_by_either_form_of_the_integration() {
    let topology = Topology::parse(SMALL).unwrap();
    assert_eq!(topology.route("GET", "/work/3").unwrap().function, "WorkFunction");
    assert_eq!(topology.route("PUT", "/work/3"), None);
    assert_eq!(topology.allowed_methods("/work/3"), BTreeSet::from(["GET"]));
    let long = edited(
        "IntegrationUri: !GetAtt WorkFunction.Arn",
        "IntegrationUri: !Sub arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${WorkFunction.Arn}/invocations",
    );
    assert_eq!(Topology::parse(&long).unwrap().routes, topology.routes);
}

#[test]
fn a_resource_whose_condition_does_not_hold_is_left_out() {
    let topology = Topology::parse(SMALL).unwrap();
    assert!(!topology.queues.contains_key("ProdQueue"));
    let topology = Topology::parse_with(SMALL, &BTreeMap::from([("Stage".into(), "prod".into())])).unwrap();
    assert!(topology.queues.contains_key("ProdQueue"));
    assert_eq!(topology.functions["WorkFunction"].environment["SLUICE_STACK"], "sluice-prod");
    says(
        "SLUICE_QUEUE: !Ref WorkQueue",
        "SLUICE_QUEUE: !Ref ProdQueue",
        "Resources.WorkFunction.Properties.Environment.Variables.SLUICE_QUEUE.Ref: resource `ProdQueue` is left out by its condition",
    );
}

#[test]
fn parameters_are_read_and_can_be_given() {
    let topology = Topology::parse(SMALL).unwrap();
    let stage = &topology.parameters["Stage"];
    assert_eq!((stage.default.as_deref(), stage.value.as_deref()), (Some("dev"), Some("dev")));
    assert_eq!(stage.allowed_values, ["dev", "prod"]);
    assert_eq!(stage.description, "Which stage this is.");
    assert!(!stage.numeric && topology.parameters["Limit"].numeric);
    let given =
        |name: &str, value: &str| Topology::parse_with(SMALL, &BTreeMap::from([(name.to_owned(), value.to_owned())]));
    assert_eq!(given("Limit", "9").unwrap().functions["WorkFunction"].environment["SLUICE_LIMIT"], "9");
    assert_eq!(given("Stage", "test").unwrap_err().to_string(), "Parameters.Stage: `test` is none of dev, prod");
    assert_eq!(given("Limit", "11").unwrap_err().to_string(), "Parameters.Limit: `11` is out of range");
    assert_eq!(given("Limit", "many").unwrap_err().to_string(), "Parameters.Limit: `many` is no number");
    assert_eq!(
        given("Limits", "1").unwrap_err().to_string(),
        "Parameters.Limits: unknown parameter (known here: Limit, Stage)"
    );
}

#[test]
fn what_is_switched_off_is_read_as_such() {
    let off = |from: &str, to: &str| Topology::parse(&edited(from, to)).unwrap();
    let topology = off("rate(1 minute)", "rate(2 hours)\n            State: DISABLED");
    let clock = &topology.functions["WorkFunction"].triggers[0];
    assert!(matches!(clock, Trigger::Schedule { every, enabled: false, .. } if *every == seconds(7_200)), "{clock:?}");
    let topology = off("rate(1 minute)", "rate(3 days)\n            State: ENABLED");
    let clock = &topology.functions["WorkFunction"].triggers[0];
    assert!(matches!(clock, Trigger::Schedule { every, enabled: true, .. } if *every == seconds(259_200)), "{clock:?}");
    let topology = off("            Input: '{\"tick\":\"work\"}'\n", "");
    let clock = &topology.functions["WorkFunction"].triggers[0];
    assert!(matches!(clock, Trigger::Schedule { input, .. } if *input == serde_json::json!({})), "{clock:?}");
    assert_eq!(off("expires_at, Enabled: true", "expires_at, Enabled: false").tables["State"].ttl_attribute, None);
    assert!(off("NoEcho: false", "NoEcho: true").parameters["Stage"].no_echo);
    assert!(!Topology::parse(SMALL).unwrap().parameters["Stage"].no_echo);
}

#[test]
fn what_means_nothing_on_one_machine_is_listed_with_its_place() {
    let topology = Topology::parse(SMALL).unwrap();
    for place in [
        "Globals.Function.Runtime",
        "Resources.Lake.Properties.BucketEncryption",
        "Resources.Role",
        "Resources.State.DeletionPolicy",
        "Resources.WorkFunction.DependsOn",
        "Resources.WorkFunction.Metadata",
        "Resources.WorkFunction.Properties.Role",
        "Resources.WorkFunction.Properties.Events.Clock.Properties.FlexibleTimeWindow",
        "Resources.WorkQueuePolicy.Properties.PolicyDocument",
        "Parameters.Stage.ConstraintDescription",
    ] {
        assert!(topology.ignored.iter().any(|ignored| ignored == place), "{place} is not in {:#?}", topology.ignored);
    }
    assert!(topology.ignored.is_sorted());
}

#[test]
fn an_unknown_thing_names_its_place_at_every_level() {
    says(
        "Outputs:",
        "Rules: {}\nOutputs:",
        "Rules: unknown section (known here: AWSTemplateFormatVersion, Conditions,",
    );
    says("  Function:\n", "  Api: {}\n  Function:\n", "Globals.Api: unknown section (known here: Function)");
    says(
        "    Runtime: provided.al2023",
        "    Runtimes: provided.al2023",
        "Globals.Function.Runtimes: unknown property (known here: CodeUri,",
    );
    says("    NoEcho: false", "    NoEchos: false", "Parameters.Stage.NoEchos: unknown property");
    says(
        "    Type: Number",
        "    Type: CommaDelimitedList",
        "Parameters.Limit.Type: unknown parameter type `CommaDelimitedList`",
    );
    says(
        "Type: AWS::SNS::Topic\n",
        "Type: AWS::SNS::Theme\n",
        "Resources.Events.Type: unknown resource type `AWS::SNS::Theme`",
    );
    says("DependsOn: Role", "DependOn: Role", "Resources.WorkFunction.DependOn: unknown attribute of a resource");
    says(
        "      MemorySize: 256",
        "      Memory: 256",
        "Resources.WorkFunction.Properties.Memory: unknown property (known here: CodeUri, Timeout, MemorySize,",
    );
    says(
        "        Variables:\n          SLUICE_QUEUE",
        "        Variable:\n          SLUICE_QUEUE",
        "Resources.WorkFunction.Properties.Environment.Variable: unknown property (known here: Variables)",
    );
    says(
        "            BatchSize: 100",
        "            BatchSizes: 100",
        "Resources.WorkFunction.Properties.Events.Messages.Properties.BatchSizes: unknown property",
    );
    says(
        "          Type: SQS",
        "          Type: Kinesis",
        "Resources.WorkFunction.Properties.Events.Messages.Type: unknown event source `Kinesis` (known here: SQS, ScheduleV2)",
    );
    says(
        "VisibilityTimeout: 200",
        "DelaySeconds: 200",
        "Resources.WorkQueue.Properties.DelaySeconds: unknown property",
    );
    says(
        "        maxReceiveCount: 5",
        "        maxReceives: 5",
        "Resources.WorkQueue.Properties.RedrivePolicy.maxReceives: unknown property",
    );
    says(
        "      RawMessageDelivery: true",
        "      Raw: true",
        "Resources.WorkSubscription.Properties.Raw: unknown property",
    );
    says(
        "ProtocolType: HTTP",
        "ProtocolType: WEBSOCKET",
        "Resources.Http.Properties.ProtocolType: unknown value `WEBSOCKET` (known here: HTTP)",
    );
    says("StageName: $default", "StageName: dev", "Resources.HttpStage.Properties.StageName: unknown value `dev`");
    says(
        "IntegrationType: AWS_PROXY",
        "IntegrationType: MOCK",
        "Resources.Integration.Properties.IntegrationType: unknown value `MOCK`",
    );
    says(
        "PayloadFormatVersion: \"2.0\"",
        "PayloadFormatVersion: \"1.0\"",
        "Resources.Integration.Properties.PayloadFormatVersion: unknown value `1.0`",
    );
    says("Protocol: sqs", "Protocol: http", "Resources.WorkSubscription.Properties.Protocol: unknown value `http`");
    says(
        "Name: QueueName",
        "Name: TopicName",
        "Resources.WorkAlarm.Properties.Dimensions[0].Name: unknown value `TopicName`",
    );
    says("AWS/SQS", "AWS/Lambda", "Resources.WorkAlarm.Properties.Namespace: unknown value `AWS/Lambda`");
    says(
        "FilterPolicyScope: MessageAttributes",
        "FilterPolicyScope: MessageBody",
        "Resources.WorkSubscription.Properties.FilterPolicyScope: unknown value `MessageBody`",
    );
    says(
        "{ prefix: al }",
        "{ anything-but: al }",
        "Resources.WorkSubscription.Properties.FilterPolicy.areas[1]: unknown filter operator `anything-but` (known here: exists, prefix)",
    );
    says(
        "[ReportBatchItemFailures]",
        "[ReportAll]",
        "Resources.WorkFunction.Properties.Events.Messages.Properties.FunctionResponseTypes[0]: unknown value `ReportAll`",
    );
    says(
        "Action: lambda:InvokeFunction",
        "Action: lambda:InvokeFunctionUrl",
        "Resources.Permission.Properties.Action: unknown value",
    );
    says(
        "AssumeRolePolicyDocument: {}",
        "AssumePolicyDocument: {}",
        "Resources.Role.Properties.AssumePolicyDocument: unknown property (known here: AssumeRolePolicyDocument,",
    );
    says(
        "AttributeName: sk, AttributeType: S",
        "AttributeName: sk, AttributeType: N",
        "Resources.State.Properties.AttributeDefinitions[1].AttributeType: unknown value `N`",
    );
    says("    Description: Address.", "    Descriptions: Address.", "Outputs.Url.Descriptions: unknown property");
}

#[test]
fn a_pointer_to_nothing_names_its_place() {
    says(
        "Endpoint: !GetAtt WorkQueue.Arn",
        "Endpoint: !GetAtt Events.TopicArn",
        "Resources.WorkSubscription.Properties.Endpoint: there is no queue `Events`",
    );
    says(
        "Endpoint: !GetAtt WorkQueue.Arn",
        "Endpoint: !GetAtt LostQueue.Arn",
        "Resources.WorkSubscription.Properties.Endpoint.Fn::GetAtt: nothing in the template is called `LostQueue`",
    );
    says(
        "TopicArn: !Ref Events",
        "TopicArn: !Ref WorkQueue",
        "Resources.WorkSubscription.Properties.TopicArn: there is no topic `WorkQueue`",
    );
    says(
        "deadLetterTargetArn: !GetAtt WorkDeadLetterQueue.Arn",
        "deadLetterTargetArn: elsewhere",
        "Resources.WorkQueue.Properties.RedrivePolicy.deadLetterTargetArn: there is no queue `elsewhere`",
    );
    says(
        "deadLetterTargetArn: !GetAtt WorkDeadLetterQueue.Arn",
        "deadLetterTargetArn: !GetAtt WorkQueue.Arn",
        "Resources.WorkQueue.Properties.RedrivePolicy.deadLetterTargetArn: a queue cannot be its own",
    );
    says(
        "Queue: !GetAtt WorkQueue.Arn",
        "Queue: !Ref State",
        "Resources.WorkFunction.Properties.Events.Messages.Properties.Queue: there is no queue `State`",
    );
    says(
        "Queues: [!Ref WorkQueue]",
        "Queues: [!Ref Events]",
        "Resources.WorkQueuePolicy.Properties.Queues[0]: there is no queue `Events`",
    );
    says(
        "Target: !Sub integrations/${Integration}",
        "Target: integrations/Other",
        "Resources.Route.Properties.Target: there is no integration `Other`",
    );
    says(
        "      Target: !Sub integrations/${Integration}\n",
        "",
        "Resources.Route.Properties: the route has no integration",
    );
    says(
        "Target: !Sub integrations/${Integration}",
        "Target: !Ref Integration",
        "Resources.Route.Properties.Target: `Integration` is not `integrations/`",
    );
    says(
        "IntegrationUri: !GetAtt WorkFunction.Arn",
        "IntegrationUri: !GetAtt WorkQueue.Arn",
        "Resources.Integration.Properties.IntegrationUri: there is no function `WorkQueue`",
    );
    says(
        "FunctionName: !Ref WorkFunction",
        "FunctionName: other",
        "Resources.Permission.Properties.FunctionName: there is no function `other`",
    );
    says(
        "ApiId: !Ref Http\n      StageName",
        "ApiId: !Ref Lake\n      StageName",
        "Resources.HttpStage.Properties.ApiId: there is no HTTP API `Lake`",
    );
    says(
        "ApiId: !Ref Http\n      IntegrationType",
        "ApiId: !Ref Lake\n      IntegrationType",
        "Resources.Integration.Properties.ApiId: there is no HTTP API `Lake`",
    );
    says(
        "ApiId: !Ref Http\n      RouteKey",
        "ApiId: !Ref Lake\n      RouteKey",
        "Resources.Route.Properties.ApiId: there is no HTTP API `Lake`",
    );
    says(
        "DependsOn: Role",
        "DependsOn: [Role, Nobody]",
        "Resources.WorkFunction.DependsOn: there is no resource `Nobody`",
    );
    says(
        "SLUICE_QUEUE: !Ref WorkQueue",
        "SLUICE_QUEUE: !Ref Que",
        "Resources.WorkFunction.Properties.Environment.Variables.SLUICE_QUEUE.Ref: nothing in the template is called `Que`",
    );
    says(
        "Condition: IsProd",
        "Condition: IsProduction",
        "Resources.ProdQueue.Condition: there is no condition `IsProduction`",
    );
    says(
        "Value: !GetAtt Http.ApiEndpoint",
        "Value: !GetAtt Http.Address",
        "Outputs.Url.Value.Fn::GetAtt: unknown attribute `Http.Address`",
    );
    // Even where the value itself means nothing on one machine.
    says(
        "AssumeRolePolicyDocument: {}",
        "AssumeRolePolicyDocument: { x: !Ref Nobody }",
        "Resources.Role.Properties.AssumeRolePolicyDocument.x.Ref: nothing in the template is called `Nobody`",
    );
}

#[test]
fn a_value_out_of_range_or_of_the_wrong_form_names_its_place() {
    says(
        "VisibilityTimeout: 200",
        "VisibilityTimeout: 43201",
        "Resources.WorkQueue.Properties.VisibilityTimeout: `43201` is not between 0 and 43200",
    );
    says(
        "VisibilityTimeout: 200",
        "VisibilityTimeout: long",
        "Resources.WorkQueue.Properties.VisibilityTimeout: `long` is no whole number",
    );
    says(
        "maxReceiveCount: 5",
        "maxReceiveCount: 0",
        "Resources.WorkQueue.Properties.RedrivePolicy.maxReceiveCount: `0` is not between 1 and 1000",
    );
    says(
        "BatchSize: 100",
        "BatchSize: 10001",
        "Resources.WorkFunction.Properties.Events.Messages.Properties.BatchSize: `10001` is not",
    );
    says(
        "MaximumBatchingWindowInSeconds: 20",
        "MaximumBatchingWindowInSeconds: 0",
        "Resources.WorkFunction.Properties.Events.Messages.Properties.BatchSize: more than 10 needs a",
    );
    says(
        "MaximumConcurrency: 5",
        "MaximumConcurrency: 1",
        "Resources.WorkFunction.Properties.Events.Messages.Properties.ScalingConfig.MaximumConcurrency: `1` is not",
    );
    says("Timeout: 30", "Timeout: 901", "Resources.WorkFunction.Properties.Timeout: `901` is not between 1 and 900");
    says(
        "CodeUri: functions/work",
        "CodeUri: functions/Work",
        "Resources.WorkFunction.Properties.CodeUri: `functions/Work` does not end with a stage's name",
    );
    says("      CodeUri: functions/work\n", "", "Resources.WorkFunction.Properties: has no `CodeUri`");
    says("Timeout: 30", "CodeUri: functions/work", "Globals.Function: `CodeUri` and `Events` belong to one function");
    says(
        "rate(1 minute)",
        "cron(0 8 * * ? *)",
        "Resources.WorkFunction.Properties.Events.Clock.Properties.ScheduleExpression: `cron(0 8 * * ? *)` is not known",
    );
    says(
        "rate(1 minute)",
        "rate(0 minutes)",
        "Resources.WorkFunction.Properties.Events.Clock.Properties.ScheduleExpression:",
    );
    says(
        "'{\"tick\":\"work\"}'",
        "'{tick}'",
        "Resources.WorkFunction.Properties.Events.Clock.Properties.Input: is not JSON",
    );
    says(
        "RouteKey: GET /work/{id}",
        "RouteKey: /work/{id}",
        "Resources.Route.Properties.RouteKey: `/work/{id}` is not `METHOD /path`",
    );
    says(
        "RouteKey: GET /other",
        "RouteKey: GET /work/{id}",
        "Resources.Route.Properties.RouteKey: `OtherRoute` has the same key",
    );
    says(
        "areas: [alert, { prefix: al }, { exists: true }]",
        "areas: []",
        "Resources.WorkSubscription.Properties.FilterPolicy.areas: an empty list lets nothing pass",
    );
    says("{ prefix: al }", "7", "Resources.WorkSubscription.Properties.FilterPolicy.areas[1]: a text or one operator");
    says(
        "        - { AttributeName: sk, KeyType: RANGE }\n",
        "",
        "Resources.State.Properties.KeySchema: needs a `HASH` and a `RANGE` key",
    );
    says(
        "AttributeName: sk, KeyType: RANGE",
        "AttributeName: so, KeyType: RANGE",
        "Resources.State.Properties.KeySchema: needs a defined `RANGE` key",
    );
    says("    Default: dev", "    Default: test", "Parameters.Stage: `test` is none of dev, prod");
    says("    NoEcho: false", "    MinLength: 4", "Parameters.Stage: `dev` is too short or too long");
    says("    NoEcho: false", "    MaxLength: 2", "Parameters.Stage: `dev` is too short or too long");
    says(
        "PolicyDocument: {}\n  WorkS",
        "PolicyDocument: none\n  WorkS",
        "Resources.WorkQueuePolicy.Properties.PolicyDocument: a mapping",
    );
    says("    Type: AWS::SNS::Topic\n", "    Properties: {}\n", "Resources.Events: has no `Type`");
    says("  Events:\n    Type", "  Ev-ents:\n    Type", "Resources.Ev-ents: a logical id has only letters and digits");
    says("  Events:\n    Type", "  Stage:\n    Type", "Resources.Stage: a parameter has the same name");
    says(
        "    Condition: IsProd",
        "    Condition: [IsProd]",
        "Resources.ProdQueue.Condition: is not the name of a condition",
    );
    says("    Value: !GetAtt Http.ApiEndpoint\n", "", "Outputs.Url: has no `Value`");
    says(
        "      Queues: [!Ref WorkQueue]",
        "      Queues: !Ref WorkQueue",
        "Resources.WorkQueuePolicy.Properties.Queues: invalid type",
    );
}

#[test]
fn two_functions_of_one_verb_are_an_error() {
    let twin = "Resources:\n  TwinFunction:\n    Type: AWS::Serverless::Function\n    Properties: { CodeUri: functions/work/ }\n";
    says("Resources:\n", twin, "Resources.WorkFunction.Properties.CodeUri: `TwinFunction` is `work` already");
}

#[test]
fn text_that_is_no_template_is_an_error() {
    assert_eq!(Topology::parse("").unwrap_err().to_string(), "the file: a mapping is needed here");
    assert_eq!(Topology::parse("[]").unwrap_err().to_string(), "the file: a mapping is needed here");
    says(
        "Transform: AWS::Serverless-2016-10-31",
        "Transform: AWS::LanguageExtensions",
        "Transform: must be `AWS::Serverless-2016-10-31`",
    );
    says("Transform: AWS::Serverless-2016-10-31\n", "", "Transform: must be `AWS::Serverless-2016-10-31`");
    says(
        "Transform: AWS::Serverless-2016-10-31",
        "Transform: [AWS::LanguageExtensions]",
        "Transform: must be `AWS::Serverless-2016-10-31`",
    );
    let list = edited("Transform: AWS::Serverless-2016-10-31", "Transform: [AWS::Serverless-2016-10-31]");
    assert_eq!(Topology::parse(&list), Topology::parse(SMALL));
    assert_eq!(
        Topology::parse("Transform: AWS::Serverless-2016-10-31").unwrap_err().to_string(),
        "Resources: is missing or empty"
    );
    let error = error("Parameters:\n", "Parameters: [\n");
    assert!(error.place().starts_with("line "), "{error}");
    says("  State:\n", "  Lake:\n", "line ");
}

/// Lines of both templates, the small one and the real one, that a mutation moves, repeats, drops or bends.
fn mutated() -> impl Strategy<Value = String> {
    let edit = (0..1_100usize, 0..1_100usize, 0..9u8, any::<char>());
    (any::<bool>(), prop::collection::vec(edit, 1..6)).prop_map(|(real, edits)| {
        let mut lines: Vec<String> = (if real { REAL } else { SMALL }).lines().map(str::to_owned).collect();
        for (at, other, kind, letter) in edits {
            if lines.is_empty() {
                break;
            }
            let (at, other) = (at % lines.len(), other % lines.len());
            match kind {
                0 => drop(lines.remove(at)),
                1 => lines.swap(at, other),
                2 => lines[at] = lines[other].clone(),
                3 => lines[at].insert(0, ' '),
                4 => lines[at] = lines[at].trim_start().to_owned(),
                5 => lines[at].push(letter),
                6 => lines[at] = lines[at].replacen(": ", ": !", 1),
                7 => lines[at] = lines[at].replacen("!Ref", "!Sub", 1).replacen("!GetAtt", "!Ref", 1),
                _ => {
                    let from = lines[at].char_indices().nth(other % 40).map_or(0, |(index, _)| index);
                    lines[at].insert(from, letter);
                }
            }
        }
        lines.join("\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_template_is_read_or_refused_and_never_a_panic(text in mutated()) {
        if let Err(error) = Topology::parse(&text) {
            prop_assert!(!error.to_string().is_empty() && !error.place().is_empty());
        }
    }

    #[test]
    fn any_text_is_read_or_refused_and_never_a_panic(text in "[\\-:{}\\[\\]!&*|>'\"a-zA-Z0-9 \\n$#.,]{0,200}") {
        let _ = Topology::parse(&text);
    }

    #[test]
    fn any_request_finds_one_route_or_none(method in "[A-Z]{0,8}", path in "(/[a-z0-9{}+%]{0,6}){0,5}") {
        let topology = Topology::parse(SMALL).unwrap();
        if let Some(found) = topology.route(&method, &path) {
            prop_assert!(topology.allowed_methods(&path).contains(method.as_str()) || found.route_key.starts_with("ANY"));
        }
    }
}

#[test]
fn deep_and_wide_text_is_refused_in_time() {
    let deep = format!("a: {}{}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(Topology::parse(&deep).is_err());
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    assert!(Topology::parse(&bomb).is_err());
    let rules: Vec<String> =
        (1..200).map(|level| format!("  C{level}: !And [!Condition C{0}, !Condition C{0}]\n", level - 1)).collect();
    let with =
        |rules: String| SMALL.replacen("Conditions:\n", &format!("Conditions:\n{rules}  C0: !Equals [a, a]\n"), 1);
    Topology::parse(&with(rules.concat())).expect("each condition is decided once, from the first on");
    let error = Topology::parse(&with(rules.iter().rev().map(String::as_str).collect())).unwrap_err();
    assert!(error.to_string().ends_with("conditions refer to conditions more than 32 deep"), "{error}");
}
