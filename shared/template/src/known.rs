//! What a template may hold that means nothing on one machine, by resource type, and why it means nothing.
//!
//! A property is either read (then it is a field of a struct in `read.rs`) or listed here; any other is an error. A new resource type or
//! property that only AWS needs is one more line here.

/// A resource type that one machine does not need at all.
pub(crate) struct Ignored {
    pub kind: &'static str,
    pub properties: &'static [&'static str],
}

/// Resource types that are accepted as a whole: nothing of them is read, yet their properties are known by name.
pub(crate) const IGNORED_TYPES: &[Ignored] = &[
    // Access rights: on one machine every stage runs as the same user.
    Ignored { kind: "AWS::IAM::Role", properties: &["AssumeRolePolicyDocument", "Description", "Policies", "Tags"] },
    Ignored { kind: "AWS::IAM::Policy", properties: &["PolicyDocument", "PolicyName", "Roles"] },
    Ignored { kind: "AWS::S3::BucketPolicy", properties: &["Bucket", "PolicyDocument"] },
    // Logs go to standard error.
    Ignored { kind: "AWS::Logs::LogGroup", properties: &["LogGroupName", "RetentionInDays", "Tags"] },
    // SQL is part of the program, and so is the catalog of the tables.
    Ignored {
        kind: "AWS::Athena::WorkGroup",
        properties: &["Description", "Name", "RecursiveDeleteOption", "State", "Tags", "WorkGroupConfiguration"],
    },
    Ignored { kind: "AWS::Glue::Database", properties: &["CatalogId", "DatabaseInput"] },
    // Search is part of the program.
    Ignored {
        kind: "AWS::OpenSearchService::Domain",
        properties: &[
            "AccessPolicies",
            "ClusterConfig",
            "DomainEndpointOptions",
            "DomainName",
            "EBSOptions",
            "EncryptionAtRestOptions",
            "EngineVersion",
            "NodeToNodeEncryptionOptions",
            "Tags",
        ],
    },
    // The first key is made in the data folder.
    Ignored {
        kind: "AWS::SecretsManager::Secret",
        properties: &["Description", "GenerateSecretString", "Name", "Tags"],
    },
    // The program serves the console by itself.
    Ignored { kind: "AWS::CloudFront::Distribution", properties: &["DistributionConfig", "Tags"] },
    Ignored {
        kind: "AWS::CloudFront::Function",
        properties: &["AutoPublish", "FunctionCode", "FunctionConfig", "Name"],
    },
    Ignored { kind: "AWS::CloudFront::OriginAccessControl", properties: &["OriginAccessControlConfig"] },
    Ignored { kind: "AWS::CloudFront::ResponseHeadersPolicy", properties: &["ResponseHeadersPolicyConfig"] },
    // Mails lie in the outbox.
    Ignored { kind: "AWS::SES::EmailIdentity", properties: &["EmailIdentity", "Tags"] },
];

/// Properties that are accepted and not read, of the resource types that are read, and of the parts of them that have a name here.
pub(crate) const IGNORED_PROPERTIES: &[(&str, &[&str])] = &[
    (
        "AWS::Serverless::Function",
        &[
            // The runtime calls the entry function itself; there is no bootstrap to start.
            "Architectures",
            "Handler",
            "PackageType",
            "Runtime",
            // Access rights, see above.
            "Policies",
            "Role",
            // Logs go to standard error.
            "EphemeralStorage",
            "LoggingConfig",
            "Tracing",
            // Names for people.
            "Description",
            "Tags",
        ],
    ),
    ("AWS::SQS::Queue", &["SqsManagedSseEnabled", "Tags"]),
    ("AWS::SNS::Topic", &["DisplayName", "Tags"]),
    // TLS, throttling and access logs are the business of what stands before the machine.
    ("AWS::ApiGatewayV2::Api", &["Description", "Name", "Tags"]),
    ("AWS::ApiGatewayV2::Stage", &["AccessLogSettings", "AutoDeploy", "DefaultRouteSettings", "Description", "Tags"]),
    ("AWS::ApiGatewayV2::Integration", &["Description", "TimeoutInMillis"]),
    // Capacity and backups are the disk's.
    (
        "AWS::DynamoDB::Table",
        &["BillingMode", "DeletionProtectionEnabled", "PointInTimeRecoverySpecification", "SSESpecification", "Tags"],
    ),
    // Encryption, old versions, retention and public access are the file system's.
    (
        "AWS::S3::Bucket",
        &[
            "BucketEncryption",
            "LifecycleConfiguration",
            "OwnershipControls",
            "PublicAccessBlockConfiguration",
            "Tags",
            "VersioningConfiguration",
        ],
    ),
    // When it is raised is for AWS to see; what it watches and whom it tells is read.
    (
        "AWS::CloudWatch::Alarm",
        &[
            "AlarmDescription",
            "ComparisonOperator",
            "EvaluationPeriods",
            "OKActions",
            "Period",
            "Statistic",
            "Tags",
            "Threshold",
            "TreatMissingData",
        ],
    ),
    // Which function the permission lets in is read; from which route is left to the gateway.
    ("AWS::Lambda::Permission", &["SourceAccount", "SourceArn"]),
    // The setting's own check is stricter.
    ("Parameter", &["AllowedPattern", "ConstraintDescription"]),
    ("ScheduleV2", &["Description", "FlexibleTimeWindow", "Name", "RetryPolicy"]),
];

/// Attributes that `Fn::GetAtt` may ask for, by resource type. All of them are the logical id on one machine.
pub(crate) const ATTRIBUTES: &[(&str, &[&str])] = &[
    ("AWS::ApiGatewayV2::Api", &["ApiEndpoint", "ApiId"]),
    ("AWS::CloudFront::Distribution", &["DomainName", "Id"]),
    ("AWS::CloudFront::Function", &["FunctionARN"]),
    ("AWS::CloudFront::OriginAccessControl", &["Id"]),
    ("AWS::DynamoDB::Table", &["Arn"]),
    ("AWS::IAM::Role", &["Arn"]),
    ("AWS::Logs::LogGroup", &["Arn"]),
    ("AWS::OpenSearchService::Domain", &["Arn", "DomainEndpoint"]),
    ("AWS::S3::Bucket", &["Arn", "DomainName", "RegionalDomainName"]),
    ("AWS::SNS::Topic", &["TopicArn", "TopicName"]),
    ("AWS::SQS::Queue", &["Arn", "QueueName", "QueueUrl"]),
    ("AWS::Serverless::Function", &["Arn"]),
];
