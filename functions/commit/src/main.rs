//! The Lambda function `commit`.

fn main() -> std::process::ExitCode {
    sluice_wiring_aws::commit::run()
}
