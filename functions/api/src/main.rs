//! The Lambda function `api`.

fn main() -> std::process::ExitCode {
    sluice_wiring_aws::api::run()
}
