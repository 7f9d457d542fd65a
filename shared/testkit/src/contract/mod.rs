//! One suite per port: what every adapter must do, whatever its technology.
