-- Properties: the fields of one object are written and read.
local size = 1000000

local Fields = {}
Fields.__index = Fields

function Fields.new()
  local made = setmetatable({}, Fields)
  made.a = 0
  made.b = 0
  made.c = 0
  made.d = 0
  made.e = 0
  made.f = 0
  made.g = 0
  made.h = 0
  made.i = 0
  made.j = 0
  return made
end

function Fields:bump()
  self.a = self.j + 1
  self.b = self.a + 1
  self.c = self.b + 1
  self.d = self.c + 1
  self.e = self.d + 1
  self.f = self.e + 1
  self.g = self.f + 1
  self.h = self.g + 1
  self.i = self.h + 1
  self.j = self.i + 1
end

local function run(n)
  local fields = Fields.new()
  local sum = 0
  for _ = 1, n do
    fields:bump()
    sum = sum + fields.a + fields.e + fields.j
  end
  return sum
end

print(run(size) == 15 * size * (size - 1) + 16 * size and "right" or "wrong")
