//! SQL over the lake (DataFusion). Being written by the lead right now: search's author leaves this folder alone.
