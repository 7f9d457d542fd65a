//! The Lambda function `notify`.

fn main() -> anyhow::Result<()> {
    sluice_wiring::lambda("notify")
}
