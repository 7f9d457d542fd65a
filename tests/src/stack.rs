//! The template's resources in an emulated account, without its functions.

use crate::ministack::Account;
use anyhow::{Context as _, bail};
use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::json;
use sluice_adapters_aws::Bounds;
use sluice_template::{Pattern, Topology};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What the clients that prepare and look may take; not what is tested.
pub const PATIENT: Bounds = Bounds { attempt: Duration::from_secs(30), operation: Duration::from_secs(60) };

/// The project's template.
pub fn template() -> anyhow::Result<Topology> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../template.yaml"))?;
    Ok(Topology::parse(&text)?)
}

/// Clients that prepare an account and look at what is in it.
#[derive(Debug, Clone)]
pub struct Clients {
    /// SQL.
    pub athena: aws_sdk_athena::Client,
    /// Objects.
    pub s3: aws_sdk_s3::Client,
    /// Table.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// Topic.
    pub sns: aws_sdk_sns::Client,
    /// Queues.
    pub sqs: aws_sdk_sqs::Client,
    /// Mail.
    pub ses: aws_sdk_sesv2::Client,
    /// Secrets.
    pub secrets: aws_sdk_secretsmanager::Client,
}

impl Clients {
    /// Clients of an account.
    pub fn new(account: &Account) -> Self {
        let connection = account.connection(PATIENT);
        let sdk = connection.sdk();
        let s3 = aws_sdk_s3::config::Builder::from(sdk).force_path_style(true).build();
        Self {
            athena: aws_sdk_athena::Client::new(sdk),
            s3: aws_sdk_s3::Client::from_conf(s3),
            dynamodb: aws_sdk_dynamodb::Client::new(sdk),
            sns: aws_sdk_sns::Client::new(sdk),
            sqs: aws_sdk_sqs::Client::new(sdk),
            ses: aws_sdk_sesv2::Client::new(sdk),
            secrets: aws_sdk_secretsmanager::Client::new(sdk),
        }
    }

    /// Makes a bucket.
    pub async fn make_bucket(&self, name: &str) -> anyhow::Result<()> {
        let place = BucketLocationConstraint::from(crate::ministack::REGION);
        let place = CreateBucketConfiguration::builder().location_constraint(place).build();
        self.s3.create_bucket().bucket(name).create_bucket_configuration(place).send().await?;
        Ok(())
    }

    /// Makes an Athena workgroup whose results lie in a bucket.
    pub async fn make_workgroup(&self, name: &str, bucket: &str) -> anyhow::Result<()> {
        use aws_sdk_athena::types::{ResultConfiguration, WorkGroupConfiguration};
        let results = ResultConfiguration::builder().output_location(format!("s3://{bucket}/query-results/")).build();
        let configuration = WorkGroupConfiguration::builder().result_configuration(results).build();
        self.athena.create_work_group().name(name).configuration(configuration).send().await?;
        Ok(())
    }

    /// Makes a table with these two key attributes.
    pub async fn make_table(&self, name: &str, partition: &str, sort: &str) -> anyhow::Result<()> {
        let key = |attribute, kind| KeySchemaElement::builder().attribute_name(attribute).key_type(kind).build();
        let text = |attribute| {
            let definition = AttributeDefinition::builder().attribute_name(attribute);
            definition.attribute_type(ScalarAttributeType::S).build()
        };
        self.dynamodb
            .create_table()
            .table_name(name)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(text(partition)?)
            .attribute_definitions(text(sort)?)
            .key_schema(key(partition, KeyType::Hash)?)
            .key_schema(key(sort, KeyType::Range)?)
            .send()
            .await?;
        Ok(())
    }

    /// Makes a topic; answers its ARN.
    pub async fn make_topic(&self, name: &str) -> anyhow::Result<String> {
        let made = self.sns.create_topic().name(name).send().await?;
        made.topic_arn().map(str::to_owned).context("a topic without ARN")
    }

    /// Makes a queue, with its dead-letter queue (ARN, receives) where it has one; answers URL and ARN.
    pub async fn make_queue(
        &self,
        name: &str,
        visibility: Duration,
        retention: Duration,
        dead_letter: Option<(&str, u32)>,
    ) -> anyhow::Result<(String, String)> {
        let mut make = self
            .sqs
            .create_queue()
            .queue_name(name)
            .attributes(QueueAttributeName::VisibilityTimeout, visibility.as_secs().to_string())
            .attributes(QueueAttributeName::MessageRetentionPeriod, retention.as_secs().to_string());
        if let Some((arn, receives)) = dead_letter {
            let policy = json!({"deadLetterTargetArn": arn, "maxReceiveCount": receives.to_string()});
            make = make.attributes(QueueAttributeName::RedrivePolicy, policy.to_string());
        }
        let url = make.send().await?.queue_url().context("a queue without URL")?.to_owned();
        let asked = self.sqs.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::QueueArn);
        let found = asked.send().await?;
        let arn = found.attributes().and_then(|a| a.get(&QueueAttributeName::QueueArn)).context("no ARN")?.clone();
        Ok((url, arn))
    }

    /// Subscribes a queue to a topic, raw, for messages with one of these values in an attribute.
    pub async fn subscribe(
        &self,
        topic: &str,
        queue: &str,
        filter: &BTreeMap<String, Vec<String>>,
    ) -> anyhow::Result<()> {
        let mut subscribe = self
            .sns
            .subscribe()
            .topic_arn(topic)
            .protocol("sqs")
            .endpoint(queue)
            .attributes("RawMessageDelivery", "true");
        if !filter.is_empty() {
            subscribe = subscribe.attributes("FilterPolicy", json!(filter).to_string());
        }
        subscribe.send().await?;
        Ok(())
    }
}

/// Makes a Glue database; answers its name.
pub fn make_database(account: &Account) -> anyhow::Result<String> {
    let name = account.name("lake").replace('-', "_");
    account.glue("CreateDatabase", &json!({"DatabaseInput": {"Name": name}}))?;
    Ok(name)
}

/// The resources of the template, by their logical ids.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The account that they are in.
    pub account: Account,
    /// Clients that look.
    pub clients: Clients,
    /// Name of the bucket.
    pub bucket: String,
    /// Name of the table.
    pub table: String,
    /// ARN of the topic.
    pub topic: String,
    /// URLs of the queues by logical id.
    pub queues: BTreeMap<String, String>,
    /// Name of the Athena workgroup.
    pub workgroup: String,
    /// Name of the Glue database.
    pub database: String,
    /// Name of the secret with the first admin key.
    pub admin_key_secret: String,
}

/// The first admin key of every stack here.
pub const ADMIN_KEY: &str = "first-key-of-this-stack-0123456789";

impl Stack {
    /// Makes the bucket, the database, the table, the topic, the queues and the subscriptions of the template.
    pub async fn make(account: Account) -> anyhow::Result<Self> {
        let topology = template()?;
        let clients = Clients::new(&account);
        let bucket = account.name("lake");
        clients.make_bucket(&bucket).await?;
        let workgroup = account.name("queries");
        clients.make_workgroup(&workgroup, &bucket).await?;
        let database = make_database(&account)?;
        let table = account.name("state");
        let keys = topology.tables.values().next().context("the template has no table")?;
        clients.make_table(&table, &keys.partition_key, &keys.sort_key).await?;
        let topic = clients.make_topic(&account.name("events")).await?;
        let alarms = clients.make_topic(&account.name("alarms")).await?;
        let (mut urls, mut arns) = (BTreeMap::new(), BTreeMap::new());
        // Dead-letter queues first: the others name them.
        let (first, then): (Vec<_>, Vec<_>) =
            topology.queues.iter().partition(|(_, queue)| queue.dead_letter.is_none());
        for (id, queue) in first.into_iter().chain(then) {
            let dead_letter = match &queue.dead_letter {
                Some(dead) => {
                    Some((arns.get(&dead.queue).context("no such dead-letter queue")?, dead.max_receive_count))
                }
                None => None,
            };
            let dead_letter = dead_letter.map(|(arn, receives): (&String, u32)| (arn.as_str(), receives));
            let name = account.name(id);
            let (url, arn) = clients.make_queue(&name, queue.visibility, queue.retention, dead_letter).await?;
            urls.insert(id.clone(), url);
            arns.insert(id.clone(), arn);
        }
        for (id, subscription) in &topology.subscriptions {
            let mut filter: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (attribute, patterns) in &subscription.filter.attributes {
                for pattern in patterns {
                    let Pattern::Exact(value) = pattern else { bail!("{id}: not an exact value") };
                    filter.entry(attribute.clone()).or_default().push(value.clone());
                }
            }
            let topic = if subscription.topic == "EventsTopic" { &topic } else { &alarms };
            clients.subscribe(topic, arns.get(&subscription.queue).context("no such queue")?, &filter).await?;
        }
        let admin_key_secret = account.name("admin-key");
        clients.secrets.create_secret().name(&admin_key_secret).secret_string(ADMIN_KEY).send().await?;
        Ok(Self { account, clients, bucket, table, topic, queues: urls, admin_key_secret, workgroup, database })
    }

    fn dead_letters(&self) -> String {
        let letters = self.queues.iter().filter_map(|(name, url)| {
            let stage = name.strip_suffix("DeadLetterQueue")?.to_lowercase();
            Some(format!("{}={url}", if stage == "alerts" { "notify" } else { &stage }))
        });
        letters.collect::<Vec<_>>().join(",")
    }

    /// The environment of every function of this stack, as Lambda and the template give it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let queues: Vec<String> = self.queues.iter().map(|(name, url)| format!("{name}={url}")).collect();
        let mut environment = self.account.environment();
        environment.extend(
            [
                ("SLUICE_ADMIN_KEY_SECRET", self.admin_key_secret.clone()),
                ("SLUICE_ATHENA_WORKGROUP", self.workgroup.clone()),
                ("SLUICE_BUCKET", self.bucket.clone()),
                ("SLUICE_COMMIT_QUEUE", self.queues.get("CommitQueue").cloned().unwrap_or_default()),
                ("SLUICE_DEAD_LETTERS", self.dead_letters()),
                ("SLUICE_GLUE_DATABASE", self.database.clone()),
                ("SLUICE_MAIL_FROM", "alerts@sluice.example".to_owned()),
                ("SLUICE_QUARANTINE_QUEUE", self.queues.get("QuarantineQueue").cloned().unwrap_or_default()),
                ("SLUICE_QUEUES", queues.join(",")),
                ("SLUICE_STACK", "test".to_owned()),
                ("SLUICE_TABLE", self.table.clone()),
                ("SLUICE_TOPIC", self.topic.clone()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        environment
    }
}
