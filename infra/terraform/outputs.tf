output "role_arns" {
  description = "For the annotations eks.amazonaws.com/role-arn in infra/kuberay/accounts.yaml."
  value       = { for name, role in aws_iam_role.account : name => role.arn }
}

output "output_bucket" {
  description = "Outputs go below scans/, weights below models/."
  value       = aws_s3_bucket.output.id
}
