//! The Lambda function `quarantine`.

fn main() -> std::process::ExitCode {
    sluice_wiring_aws::quarantine::run()
}
