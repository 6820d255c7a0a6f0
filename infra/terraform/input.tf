# The bucket of the images: one that exists, or a new one; and its optional inventory.

locals {
  # By name, so that the bucket need not be readable by whoever runs Terraform.
  input_arn = "arn:aws:s3:::${var.input_bucket}"
  input     = toset(var.create_input_bucket ? [var.input_bucket] : [])
}

resource "aws_s3_bucket" "input" {
  for_each = local.input
  bucket   = each.value
}

resource "aws_s3_bucket_versioning" "input" {
  for_each = aws_s3_bucket.input
  bucket   = each.value.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "input" {
  for_each = aws_s3_bucket.input
  bucket   = each.value.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "input" {
  for_each                = aws_s3_bucket.input
  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "input" {
  for_each   = aws_s3_bucket.input
  depends_on = [aws_s3_bucket_versioning.input]
  bucket     = each.value.id

  rule {
    id     = "replaced-and-deleted"
    status = "Enabled"
    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

# --input s3://<output bucket>/inventory/<input bucket>/images/<date>/manifest.json
resource "aws_s3_bucket_inventory" "images" {
  count                    = var.inventory ? 1 : 0
  depends_on               = [aws_s3_bucket.input, aws_s3_bucket_policy.output]
  bucket                   = var.input_bucket
  name                     = "images"
  included_object_versions = "Current"
  optional_fields          = ["Size", "LastModifiedDate", "ETag"]

  schedule {
    frequency = "Daily"
  }

  destination {
    bucket {
      bucket_arn = aws_s3_bucket.output.arn
      account_id = data.aws_caller_identity.this.account_id
      format     = "Parquet"
      prefix     = "inventory"

      encryption {
        sse_s3 {}
      }
    }
  }
}
