//! Pairs of a picture and its texts from folders, tars, json and Parquet.
