//! The Lambda function `compact`.

fn main() -> std::process::ExitCode {
    sluice_wiring_aws::compact::run()
}
