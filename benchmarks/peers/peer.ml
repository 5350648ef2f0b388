(* The peer program in OCaml: what peer.c does, operation by operation.

     ocamlfind or plain: ocamlopt -O3 -unsafe -inline 200 clock.c peer.ml -o peer-ocaml
     ./peer-ocaml churn|trees|full LIVE CAPACITY COUNT SECONDS SEED

   The heap's size is set by space_overhead: CAPACITY over LIVE.  The clock is a C function. *)

external now : unit -> (int[@untagged]) = "peer_no_bytecode" "peer_now_ns" [@@noalloc]

(* The first three fields of all nodes; a larger one is used as one of these. *)
type node = { mutable left : node; mutable right : node; id : int }
type node48 = { l48 : node; r48 : node; i48 : int; a48 : int; b48 : int }
type node64 = { l64 : node; r64 : node; i64 : int; a : int; b : int; c : int; d : int }

let rec nil = { left = nil; right = nil; id = -1 }

let tree_nodes = 511 and tree_bytes = 511 * 48 and walk_links = 8 and young_ones = 8
let ring_size = 1024 and array_bytes = 1024 and array_words = 126 and array_every = 22
let sample = 16 and generation_bits = 24 and place_bits = 9 and step_levels = 6
let min_depth = 4 and leaf_node_bytes = 32 and gap_ns = 20000
let young_id = 1 lsl 61 and prime = 2147483647
let generation id = id land 0xFFFFFF

(* ---- what is recorded ------------------------------------------------------------------------ *)

let counts = Array.make (2048 + 1024 * 40) 0
let t_begin = ref 0 and t_last = ref 0 and t_end = ref 0
let ops = ref 0 and failures = ref 0 and hash = ref 0
let gap_start = ref (Array.make 65536 0) and gap_length = ref (Array.make 65536 0)
let gaps = ref 0

let rec bits_of value n = if value = 0 then n else bits_of (value lsr 1) (n + 1)

let slot_of value =
  if value < 2048 then value
  else
    let shift = bits_of (value lsr 11) 0 in
    shift * 1024 + (value lsr shift)

let upper slot =
  if slot < 2048 then slot
  else
    let shift = slot / 1024 - 1 in
    ((slot - shift * 1024 + 1) lsl shift) - 1

let start seconds =
  t_begin := now ();
  t_last := !t_begin;
  t_end := !t_begin + int_of_float (seconds *. 1e9)

let note_gap length =
  if !gaps = Array.length !gap_start then begin
    gap_start := Array.append !gap_start (Array.make !gaps 0);
    gap_length := Array.append !gap_length (Array.make !gaps 0)
  end;
  !gap_start.(!gaps) <- !t_last - !t_begin - length;
  !gap_length.(!gaps) <- length;
  incr gaps

let ended () =
  let at = now () in
  let length = at - !t_last in
  t_last := at;
  let slot = slot_of length in
  counts.(slot) <- counts.(slot) + 1;
  if length > gap_ns then note_gap length;
  incr ops;
  at < !t_end

let print_run () =
  Printf.printf "seconds %.9f\nops %d\nfailures %d\n"
    (float_of_int (!t_last - !t_begin) /. 1e9) !ops !failures;
  Array.iteri (fun i n -> if n > 0 then Printf.printf "bucket %d %d\n" (upper i) n) counts;
  for i = 0 to !gaps - 1 do
    Printf.printf "gap %d %d\n" !gap_start.(i) !gap_length.(i)
  done

(* ---- data ------------------------------------------------------------------------------------ *)

let state = ref 1

let draw () =
  let s = !state in
  let s = s lxor ((s lsl 13) land 0xFFFFFFFF) in
  let s = s lxor (s lsr 17) in
  let s = s lxor ((s lsl 5) land 0xFFFFFFFF) in
  state := s;
  s

let pick n = (draw () * n) lsr 32
let class_of tree place = (tree + place) mod 3
let key_of tree place = (tree lsl place_bits) lor place

let make kind left right id : node =
  if kind = 0 then { left; right; id }
  else if kind = 1 then
    Obj.magic { l48 = left; r48 = right; i48 = id; a48 = id lxor 0xFFFF; b48 = id + 1 }
  else
    Obj.magic { l64 = left; r64 = right; i64 = id; a = id lxor 0xFFFF; b = id + 1;
                c = id lxor 0xFF00; d = id + 2 }

let filled (node : node) kind =
  if kind = 0 then true
  else if kind = 1 then
    let it : node48 = Obj.magic node in
    it.a48 = it.i48 lxor 0xFFFF && it.b48 = it.i48 + 1
  else
    let it : node64 = Obj.magic node in
    it.a = it.i64 lxor 0xFFFF && it.b = it.i64 + 1 && it.c = it.i64 lxor 0xFF00
    && it.d = it.i64 + 2

let is node key =
  if node != nil && node.id asr generation_bits = key then true
  else begin incr failures; false end

let expect holds = if not holds then incr failures
let fold id = hash := (!hash * 1000003 + id mod prime) mod prime

(* ---- churn ----------------------------------------------------------------------------------- *)

let table = ref [||] and ring = Array.make ring_size nil
let arrays : Bytes.t array ref = ref [||]
let operations = ref 0 and young = ref 0 and replaced = ref 0 and arrays_replaced = ref 0
let until_array = ref array_every

let rec build tree place =
  let id = key_of tree place lsl generation_bits in
  let node = make (class_of tree place) nil nil id in
  if 2 * place < tree_nodes then begin
    node.left <- build tree (2 * place);
    node.right <- build tree (2 * place + 1)
  end;
  node

let word bytes i = Int64.to_int (Bytes.get_int64_ne bytes (8 * i))

let words id =
  let made = Bytes.create (8 * array_words) in
  for i = 0 to array_words - 1 do
    Bytes.set_int64_ne made (8 * i) (Int64.of_int (id + i))
  done;
  made

let words_hold bytes =
  let first = word bytes 0 and differing = ref 0 in
  for i = 0 to array_words - 1 do
    differing := !differing lor (word bytes i lxor (first + i))
  done;
  !differing = 0

let replace_node sampled =
  let tree = pick (Array.length !table) in
  let place = 1 + pick tree_nodes in
  let kind = class_of tree place in
  let rec descend parent node level =
    let here = place lsr level in
    if not (is node (key_of tree here)) then ()
    else if level > 0 then
      descend node (if (place lsr (level - 1)) land 1 = 0 then node.left else node.right)
        (level - 1)
    else begin
      if sampled then expect (filled node kind);
      let made = make kind node.left node.right (node.id + 1) in
      if parent == nil then !table.(tree) <- made
      else if place land 1 = 0 then parent.left <- made
      else parent.right <- made;
      incr replaced
    end
  in
  descend nil !table.(tree) (bits_of place 0 - 1)

let walk () =
  let tree = pick (Array.length !table) in
  let bits = draw () in
  let rec go node place bits left =
    if is node (key_of tree place) && left > 0 then
      go (if bits land 1 = 0 then node.left else node.right)
        (2 * place + (bits land 1)) (bits lsr 1) (left - 1)
  in
  go !table.(tree) 1 bits walk_links

let make_young sampled =
  for i = 0 to young_ones - 1 do
    let slot = !young land (ring_size - 1) in
    if sampled && i = 0 && !young >= ring_size then begin
      let old = ring.(slot) in
      expect (old != nil && old.id = young_id lor (!young - ring_size)
              && filled old ((!young + 2 * ring_size) mod 3))
    end;
    ring.(slot) <- make (!young mod 3) nil nil (young_id lor !young);
    incr young
  done

let replace_array () =
  let index = pick (Array.length !arrays) in
  let old = !arrays.(index) in
  expect (word old 0 asr generation_bits = index);
  if !arrays_replaced mod sample = 0 then expect (words_hold old);
  !arrays.(index) <- words (word old 0 + 1);
  incr arrays_replaced

let operate () =
  let sampled = !operations land (sample - 1) = 0 in
  replace_node sampled;
  walk ();
  walk ();
  make_young sampled;
  decr until_array;
  if !until_array = 0 then begin
    until_array := array_every;
    replace_array ()
  end;
  incr operations

let rec audit node tree place =
  if not (is node (key_of tree place)) then 0
  else begin
    expect (filled node (class_of tree place));
    fold node.id;
    let sum = generation node.id in
    if 2 * place < tree_nodes then begin
      let sum = sum + audit node.left tree (2 * place) in
      sum + audit node.right tree (2 * place + 1)
    end
    else begin
      expect (node.left == nil && node.right == nil);
      sum
    end
  end

let audit_all () =
  hash := 0;
  let nodes = ref 0 and of_arrays = ref 0 in
  Array.iteri (fun tree node -> nodes := !nodes + audit node tree 1) !table;
  Array.iteri (fun i one ->
      let id = word one 0 in
      expect (words_hold one && id asr generation_bits = i);
      fold id;
      of_arrays := !of_arrays + generation id) !arrays;
  for i = max 0 (!young - ring_size) to !young - 1 do
    expect (ring.(i land (ring_size - 1)).id = young_id lor i)
  done;
  fold !young;
  expect (!nodes = !replaced && !of_arrays = !arrays_replaced);
  !hash

let churn live warm_up seconds =
  table := Array.make (live * 9 / 10 / tree_bytes) nil;
  arrays := Array.make (live / 10 / array_bytes) Bytes.empty;
  for i = 0 to Array.length !table - 1 do !table.(i) <- build i 1 done;
  for i = 0 to Array.length !arrays - 1 do !arrays.(i) <- words (i lsl generation_bits) done;
  for _ = 1 to warm_up do operate () done;
  Printf.printf "checksum %d\n" (audit_all ());
  start seconds;
  operate ();
  while ended () do operate () done;
  ignore (audit_all ());
  print_run ()

(* ---- trees ----------------------------------------------------------------------------------- *)

let serial = ref 0 and short_lived = ref 0
let stopped = ref false and measuring = ref false

let step () =
  if !measuring && not (ended ()) then stopped := true;
  not !stopped

let rec build_up levels place =
  let left = if levels > 1 then build_up (levels - 1) (2 * place) else nil in
  let right = if levels > 1 && left != nil then build_up (levels - 1) (2 * place + 1) else nil in
  if levels > 1 && right == nil then nil
  else begin
    let node = make 0 left right ((!serial lsl 32) lor place) in
    if (levels = step_levels || (place = 1 && levels < step_levels)) && not (step ()) then nil
    else node
  end

let rec count_small node levels place =
  if node == nil || node.id <> (!serial lsl 32) lor place then begin incr failures; 0 end
  else if levels = 1 then begin
    expect (node.left == nil && node.right == nil);
    1
  end
  else
    1 + count_small node.left (levels - 1) (2 * place)
    + count_small node.right (levels - 1) (2 * place + 1)

let rec count node levels place =
  if levels <= step_levels then begin
    let nodes = count_small node levels place in
    ignore (step ());
    nodes
  end
  else begin
    expect (node.id = (!serial lsl 32) lor place);
    let nodes = 1 + count node.left (levels - 1) (2 * place) in
    if !stopped then nodes else nodes + count node.right (levels - 1) (2 * place + 1)
  end

let rec fold_tree node =
  if node != nil then begin
    fold node.id;
    fold_tree node.left;
    fold_tree node.right
  end

let trees live seconds =
  let depth = ref (min_depth + 2) in
  while 2 * ((2 lsl (!depth + 1)) - 1) * leaf_node_bytes <= live do incr depth done;
  let depth = !depth in
  let long_lived = build_up (depth + 1) 1 in
  measuring := true;
  start seconds;
  while not !stopped do
    let d = ref min_depth in
    while !d <= depth && not !stopped do
      let i = ref 0 in
      while !i < 1 lsl (depth - !d + min_depth) && not !stopped do
        incr short_lived;
        serial := !short_lived land 0xFFFFFFF;
        let made = build_up (!d + 1) 1 in
        if made != nil then begin
          let nodes = count made (!d + 1) 1 in
          expect (!stopped || nodes = (2 lsl !d) - 1)
        end;
        incr i
      done;
      d := !d + 2
    done
  done;
  measuring := false;
  stopped := false;
  serial := 0;
  expect (count long_lived (depth + 1) 1 = (2 lsl depth) - 1);
  fold_tree long_lived;
  Printf.printf "checksum %d\n" !hash;
  print_run ()

(* ---- full ------------------------------------------------------------------------------------ *)

let rec build_pair tree place =
  let kind = class_of tree place in
  let a = make kind nil nil (key_of tree place lsl generation_bits) in
  let b = make kind nil nil (key_of (tree + 1) place lsl generation_bits) in
  if 2 * place < tree_nodes then begin
    let al, bl = build_pair tree (2 * place) in
    a.left <- al;
    b.left <- bl;
    let ar, br = build_pair tree (2 * place + 1) in
    a.right <- ar;
    b.right <- br
  end;
  (a, b)

let rec audit_even node tree place =
  if not (is node (key_of tree place)) then 0
  else begin
    expect (filled node (class_of tree place));
    fold node.id;
    if 2 * place >= tree_nodes then 1
    else begin
      let nodes = 1 + audit_even node.left tree (2 * place) in
      nodes + audit_even node.right tree (2 * place + 1)
    end
  end

let full live times =
  let pairs = live / tree_bytes in
  for _ = 1 to times do
    table := Array.make (2 * pairs) nil;
    Gc.compact ();
    for i = 0 to pairs - 1 do
      let a, b = build_pair (2 * i) 1 in
      !table.(2 * i) <- a;
      !table.(2 * i + 1) <- b
    done;
    for i = 0 to pairs - 1 do !table.(2 * i + 1) <- nil done;
    let at = now () in
    Gc.compact ();
    Printf.printf "collection %d\n" (now () - at);
    hash := 0;
    for i = 0 to pairs - 1 do
      expect (audit_even !table.(2 * i) (2 * i) 1 = tree_nodes)
    done
  done;
  Printf.printf "checksum %d\nlive %d\nfailures %d\n" !hash (pairs * tree_bytes) !failures

let () =
  let number at = int_of_string Sys.argv.(at) in
  let live = number 2 and capacity = number 3 and times = number 4 in
  let seconds = float_of_string Sys.argv.(5) in
  state := ((number 6 * 2654435761) land 0xFFFFFFFF) lor 1;
  Gc.set { (Gc.get ()) with Gc.space_overhead = 100 * (capacity - live) / live };
  Printf.printf "version %s\n" Sys.ocaml_version;
  (match Sys.argv.(1) with
   | "churn" -> churn live times seconds
   | "trees" -> trees live seconds
   | "full" -> full live times
   | other -> failwith other);
  let stat = Gc.quick_stat () in
  Printf.printf "note minor %d, major %d, compactions %d\n" stat.Gc.minor_collections
    stat.Gc.major_collections stat.Gc.compactions;
  exit (if !failures = 0 then 0 else 1)
