"""Legal hold: a matter's frames copied under S3 legal hold, recorded, and stated in the trail."""
