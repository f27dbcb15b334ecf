"""Services that CATImage is compared with: one pipeline of diffusers, no router, no batching."""
