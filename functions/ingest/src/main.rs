//! The Lambda function `ingest`.

fn main() -> std::process::ExitCode {
    sluice_wiring_aws::ingest::run()
}
