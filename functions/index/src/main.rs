//! The Lambda function `index`.

fn main() -> std::process::ExitCode {
    sluice_wiring_aws::index::run()
}
