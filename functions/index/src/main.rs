//! The Lambda function `index`.

fn main() -> anyhow::Result<()> {
    sluice_wiring::lambda("index")
}
