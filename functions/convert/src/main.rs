//! The Lambda function `convert`.

fn main() -> anyhow::Result<()> {
    sluice_wiring::lambda("convert")
}
