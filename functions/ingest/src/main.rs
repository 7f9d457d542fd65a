//! The Lambda function `ingest`.

fn main() -> anyhow::Result<()> {
    sluice_wiring::lambda("ingest")
}
