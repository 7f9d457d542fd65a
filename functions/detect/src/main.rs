//! The Lambda function `detect`.

fn main() -> anyhow::Result<()> {
    sluice_wiring::lambda("detect")
}
