//! The Lambda function `quarantine`.

fn main() -> anyhow::Result<()> {
    sluice_wiring::lambda("quarantine")
}
