//! The Lambda function `detect`.

fn main() -> std::process::ExitCode {
    sluice_wiring_aws::detect::run()
}
