"""Zero-shot anomaly detection (AdaCLIP) over whole buckets of images, on Ray."""
