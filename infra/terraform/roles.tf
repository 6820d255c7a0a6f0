# Two roles, each for one service account of infra/kuberay/accounts.yaml (IRSA): scans read images and
# write results, and delete nothing, not even their locks; maintenance (compact, vacuum) alone may
# delete results, and sees no image.

locals {
  oidc_issuer = split(":oidc-provider/", var.oidc_provider_arn)[1]
  output_arn  = aws_s3_bucket.output.arn
  accounts    = toset(["adaclip-scan", "adaclip-maintenance"])
}

data "aws_iam_policy_document" "scan" {
  # Without a condition on the prefix: S3 answers 404 for a missing object only to those who may
  # list its bucket, and "not found" and "not allowed" are different errors in the score table.
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [local.input_arn, local.output_arn]
  }

  statement {
    sid     = "Read"
    actions = ["s3:GetObject"]
    resources = [
      "${local.input_arn}/*",
      "${local.output_arn}/scans/*",
      "${local.output_arn}/models/*",
      "${local.output_arn}/inventory/*",
    ]
  }

  statement {
    sid       = "Write"
    actions   = ["s3:PutObject", "s3:AbortMultipartUpload"]
    resources = ["${local.output_arn}/scans/*"]
  }
}

data "aws_iam_policy_document" "maintenance" {
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [local.output_arn]
  }

  statement {
    sid = "Rewrite"
    actions = [
      "s3:GetObject",
      "s3:PutObject",
      "s3:AbortMultipartUpload",
      "s3:DeleteObject",
    ]
    resources = ["${local.output_arn}/scans/*"]
  }
}

data "aws_iam_policy_document" "trust" {
  for_each = local.accounts

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [var.oidc_provider_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.oidc_issuer}:sub"
      values   = ["system:serviceaccount:${var.namespace}:${each.value}"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.oidc_issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "account" {
  for_each           = local.accounts
  name               = each.value
  assume_role_policy = data.aws_iam_policy_document.trust[each.value].json
}

resource "aws_iam_role_policy" "scan" {
  name   = "read-images-write-results"
  role   = aws_iam_role.account["adaclip-scan"].id
  policy = data.aws_iam_policy_document.scan.json
}

resource "aws_iam_role_policy" "maintenance" {
  name   = "rewrite-results"
  role   = aws_iam_role.account["adaclip-maintenance"].id
  policy = data.aws_iam_policy_document.maintenance.json
}
