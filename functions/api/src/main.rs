//! The Lambda function `api`.

fn main() -> anyhow::Result<()> {
    sluice_wiring::lambda("api")
}
