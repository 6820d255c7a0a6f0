variable "region" {
  description = "Where the buckets are: the region of the cluster, or every image crosses a border."
  type        = string
}

variable "input_bucket" {
  description = "Bucket of the images."
  type        = string
}

variable "create_input_bucket" {
  description = "false: the bucket of the images exists and is only read."
  type        = bool
  default     = false
}

variable "output_bucket" {
  description = "Bucket to create for scans/ (outputs), models/ (weights) and inventory/."
  type        = string
}

variable "noncurrent_days" {
  description = "Days that replaced and deleted objects of the output can be brought back."
  type        = number
  default     = 30
}

variable "inventory" {
  description = "Write a daily S3 Inventory of the images, for buckets too large to list every night."
  type        = bool
  default     = false
}

variable "oidc_provider_arn" {
  description = "IAM OIDC provider of the EKS cluster, arn:aws:iam::<account>:oidc-provider/<issuer>."
  type        = string

  validation {
    condition     = strcontains(var.oidc_provider_arn, ":oidc-provider/")
    error_message = "The ARN of an IAM OIDC provider holds \":oidc-provider/\"."
  }
}

variable "namespace" {
  description = "Kubernetes namespace of the service accounts in infra/kuberay/accounts.yaml."
  type        = string
  default     = "adaclip"
}
