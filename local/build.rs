//! Has the program built anew when the web application was: its files are part of the program.

fn main() {
    println!("cargo:rerun-if-changed=../web/dist");
}
