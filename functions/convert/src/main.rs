//! The Lambda function `convert`.

fn main() -> std::process::ExitCode {
    sluice_wiring_aws::convert::run()
}
