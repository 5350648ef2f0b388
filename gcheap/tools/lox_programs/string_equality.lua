-- String equality: short and long strings, equal and different, and one that is made each time.
local size = 600000

local function run(n)
  local short1 = "abc"
  local short2 = "ab" .. "c"
  local short3 = "abd"
  local long1 = "a string that is long enough not to be short"
  local long2 = "a string that is long " .. "enough not to be short"
  local long3 = "a string that is long enough not to be shorn"
  local equal = 0
  for _ = 1, n do
    if short1 == short2 then equal = equal + 1 end
    if short1 == short3 then equal = equal + 1 end
    if short2 ~= short3 then equal = equal + 1 end
    if long1 == long2 then equal = equal + 1 end
    if long1 == long3 then equal = equal + 1 end
    if long2 ~= long3 then equal = equal + 1 end
    if short1 == long1 then equal = equal + 1 end
    if short1 == nil then equal = equal + 1 end
    if long3 == 1 then equal = equal + 1 end
    if short1 .. short3 == "abcabd" then equal = equal + 1 end
  end
  return equal
end

print(run(size) == 5 * size and "right" or "wrong")
