//! Files written so that they survive a power cut.
