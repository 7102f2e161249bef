// The family of images: `docker buildx bake` builds the default, `docker buildx bake all` every one.
// A test holds this file against tools/variants.py, which `make image VARIANT=…` reads.

variable "IMAGE" { default = "pytorch-cuda" }

// The launcher's version, for tags that never move; the minute, for those of a weekly rebuild.
variable "RELEASE" { default = "" }
variable "DATE" { default = "" }

// PyTorch's index of builds without CUDA, for `cpu`: its install page names it.
variable "TORCH_INDEX" { default = "" }

variable "REVISION" { default = "unknown" }
variable "CREATED" { default = "unknown" }

function "tags" {
  params = [name]
  result = compact([
    "${IMAGE}:${name}",
    RELEASE != "" && DATE == "" ? "${IMAGE}:${RELEASE}-${name}" : "",
    RELEASE != "" && DATE != "" ? "${IMAGE}:${RELEASE}-${name}-${DATE}" : "",
  ])
}

group "default" {
  targets = ["cuda"]
}

group "all" {
  targets = ["cuda", "slim", "cpu", "latest", "devel"]
}

target "common" {
  context   = "."
  platforms = ["linux/amd64"]
  args = {
    VERSION     = RELEASE != "" ? RELEASE : "unknown"
    REVISION    = REVISION
    CREATED     = CREATED
    TORCH_INDEX = TORCH_INDEX
  }
}

target "cuda" {
  inherits = ["common"]
  tags     = tags("v2.6")
}

target "slim" {
  inherits = ["common"]
  tags     = tags("v2.6-slim")
  args     = { FLAVOR = "slim" }
}

// PyTorch's own index has builds without CUDA for both architectures.
target "cpu" {
  inherits  = ["common"]
  platforms = ["linux/amd64", "linux/arm64"]
  tags      = tags("v2.6-cpu")
  args = {
    TORCH = "torch==2.6.0+cpu torchvision==0.21.0+cpu torchaudio==2.6.0+cpu"
  }
}

// From 2.11 on the ordinary index has CUDA for arm64 too.
target "latest" {
  inherits  = ["common"]
  platforms = ["linux/amd64", "linux/arm64"]
  tags      = tags("v2.14")
  args      = { TORCH = "torch==2.14.1 torchvision==0.29.1 torchaudio==2.11.0" }
}

target "devel" {
  inherits  = ["common"]
  platforms = ["linux/amd64", "linux/arm64"]
  tags      = tags("v2.14-devel")
  args = {
    TORCH  = "torch==2.14.1 torchvision==0.29.1 torchaudio==2.11.0"
    FLAVOR = "devel"
  }
}
