//! SQL over the lake in DataFusion.
