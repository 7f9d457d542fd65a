//! The Lambda function `notify`.

fn main() -> std::process::ExitCode {
    sluice_wiring_aws::notify::run()
}
