// Models of the hard blocks of Lattice ECP5 that Yosys knows the ports of, and nothing else: the multiplier of a DSP
// block and the block RAM. Written after Lattice's sysDSP usage guide (FPGA-TN-02205), memory usage guide
// (FPGA-TN-02204) and library reference; what they leave out stops the simulation where a netlist asks for it.
// Registers and memories hold what a configured device starts with. The global set/reset is not part of the model, as
// designs of ours do not use it.

// A register of a DSP block, with the clock, the enable and the reset that it selects of four, or none at all. A reset
// comes before the enable.
module zeropoint_dsp_register #(
  parameter WIDTH = 1,
  parameter CLK = "NONE",
  parameter CE = "CE0",
  parameter RST = "RST0",
  parameter RESETMODE = "SYNC"
) (
  input [3:0] clks, ces, rsts,
  input [WIDTH-1:0] d,
  output [WIDTH-1:0] q
);
  wire clk = CLK == "CLK3" ? clks[3] : CLK == "CLK2" ? clks[2] : CLK == "CLK1" ? clks[1] : clks[0];
  wire ce = CE == "CE3" ? ces[3] : CE == "CE2" ? ces[2] : CE == "CE1" ? ces[1] : ces[0];
  wire rst = RST == "RST3" ? rsts[3] : RST == "RST2" ? rsts[2] : RST == "RST1" ? rsts[1] : rsts[0];
  generate
    if (CLK == "NONE") begin : without
      assign q = d;
    end else begin : held
      reg [WIDTH-1:0] value = 0;
      if (RESETMODE == "ASYNC") begin : asynchronous
        always @(posedge clk, posedge rst)
          if (rst) value <= 0;
          else if (ce) value <= d;
      end else begin : synchronous
        always @(posedge clk)
          if (rst) value <= 0;
          else if (ce) value <= d;
      end
      assign q = value;
    end
  endgenerate
endmodule

// The 18 x 18 multiplier: operands with or without a sign, from its inputs or from the neighbour's shift register, and
// registers at its operands, behind the multiplier and at its output, each of which can be left out. (The clock
// dividers, "ENABLED" at an ordinary rate, and what works at twice that rate are left out.)
module MULT18X18D(
  input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0, B17, B16, B15, B14, B13,
    B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0, C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6,
    C5, C4, C3, C2, C1, C0,
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  input CLK3, CLK2, CLK1, CLK0, CE3, CE2, CE1, CE0, RST3, RST2, RST1, RST0,
  input SRIA17, SRIA16, SRIA15, SRIA14, SRIA13, SRIA12, SRIA11, SRIA10, SRIA9, SRIA8, SRIA7, SRIA6, SRIA5, SRIA4,
    SRIA3, SRIA2, SRIA1, SRIA0, SRIB17, SRIB16, SRIB15, SRIB14, SRIB13, SRIB12, SRIB11, SRIB10, SRIB9, SRIB8, SRIB7,
    SRIB6, SRIB5, SRIB4, SRIB3, SRIB2, SRIB1, SRIB0,
  output SROA17, SROA16, SROA15, SROA14, SROA13, SROA12, SROA11, SROA10, SROA9, SROA8, SROA7, SROA6, SROA5, SROA4,
    SROA3, SROA2, SROA1, SROA0, SROB17, SROB16, SROB15, SROB14, SROB13, SROB12, SROB11, SROB10, SROB9, SROB8, SROB7,
    SROB6, SROB5, SROB4, SROB3, SROB2, SROB1, SROB0, ROA17, ROA16, ROA15, ROA14, ROA13, ROA12, ROA11, ROA10, ROA9,
    ROA8, ROA7, ROA6, ROA5, ROA4, ROA3, ROA2, ROA1, ROA0, ROB17, ROB16, ROB15, ROB14, ROB13, ROB12, ROB11, ROB10,
    ROB9, ROB8, ROB7, ROB6, ROB5, ROB4, ROB3, ROB2, ROB1, ROB0, ROC17, ROC16, ROC15, ROC14, ROC13, ROC12, ROC11,
    ROC10, ROC9, ROC8, ROC7, ROC6, ROC5, ROC4, ROC3, ROC2, ROC1, ROC0, P35, P34, P33, P32, P31, P30, P29, P28, P27,
    P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3,
    P2, P1, P0,
  output SIGNEDP
);
  parameter REG_INPUTA_CLK = "NONE";
  parameter REG_INPUTA_CE = "CE0";
  parameter REG_INPUTA_RST = "RST0";
  parameter REG_INPUTB_CLK = "NONE";
  parameter REG_INPUTB_CE = "CE0";
  parameter REG_INPUTB_RST = "RST0";
  parameter REG_INPUTC_CLK = "NONE";
  parameter REG_INPUTC_CE = "CE0";
  parameter REG_INPUTC_RST = "RST0";
  parameter REG_PIPELINE_CLK = "NONE";
  parameter REG_PIPELINE_CE = "CE0";
  parameter REG_PIPELINE_RST = "RST0";
  parameter REG_OUTPUT_CLK = "NONE";
  parameter REG_OUTPUT_CE = "CE0";
  parameter REG_OUTPUT_RST = "RST0";
  parameter CLK0_DIV = "ENABLED";
  parameter CLK1_DIV = "ENABLED";
  parameter CLK2_DIV = "ENABLED";
  parameter CLK3_DIV = "ENABLED";
  parameter HIGHSPEED_CLK = "NONE";
  parameter GSR = "ENABLED";
  parameter CAS_MATCH_REG = "FALSE";
  parameter SOURCEB_MODE = "B_SHIFT";
  parameter MULT_BYPASS = "DISABLED";
  parameter RESETMODE = "SYNC";

  initial
    if (CLK0_DIV != "ENABLED" || CLK1_DIV != "ENABLED" || CLK2_DIV != "ENABLED" || CLK3_DIV != "ENABLED"
        || HIGHSPEED_CLK != "NONE" || CAS_MATCH_REG != "FALSE" || SOURCEB_MODE != "B_SHIFT"
        || MULT_BYPASS != "DISABLED" || (RESETMODE != "SYNC" && RESETMODE != "ASYNC"))
      $fatal(1, "MULT18X18D: this model has no such mode");

  wire [17:0] a = {
    A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0
  };
  wire [17:0] b = {
    B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0
  };
  wire [17:0] shifted_a = {
    SRIA17, SRIA16, SRIA15, SRIA14, SRIA13, SRIA12, SRIA11, SRIA10, SRIA9, SRIA8, SRIA7, SRIA6, SRIA5, SRIA4,
    SRIA3, SRIA2, SRIA1, SRIA0
  };
  wire [17:0] shifted_b = {
    SRIB17, SRIB16, SRIB15, SRIB14, SRIB13, SRIB12, SRIB11, SRIB10, SRIB9, SRIB8, SRIB7, SRIB6, SRIB5, SRIB4,
    SRIB3, SRIB2, SRIB1, SRIB0
  };
  wire [3:0] clk = {CLK3, CLK2, CLK1, CLK0};
  wire [3:0] ce = {CE3, CE2, CE1, CE0};
  wire [3:0] rst = {RST3, RST2, RST1, RST0};

  // An operand and whether it is signed go through the same registers.
  wire signed_a, signed_b;
  wire [17:0] operand_a, operand_b;
  zeropoint_dsp_register #(19, REG_INPUTA_CLK, REG_INPUTA_CE, REG_INPUTA_RST, RESETMODE) input_a(
    clk, ce, rst, {SIGNEDA, SOURCEA ? shifted_a : a}, {signed_a, operand_a});
  zeropoint_dsp_register #(19, REG_INPUTB_CLK, REG_INPUTB_CE, REG_INPUTB_RST, RESETMODE) input_b(
    clk, ce, rst, {SIGNEDB, SOURCEB ? shifted_b : b}, {signed_b, operand_b});

  // Both with a sign, so that the product is exact; its 36 bits at the bottom are those of any two operands.
  wire signed [18:0] factor_a = {signed_a & operand_a[17], operand_a};
  wire signed [18:0] factor_b = {signed_b & operand_b[17], operand_b};
  wire signed [37:0] product = factor_a * factor_b;

  wire [36:0] pipelined;
  zeropoint_dsp_register #(37, REG_PIPELINE_CLK, REG_PIPELINE_CE, REG_PIPELINE_RST, RESETMODE) pipeline(
    clk, ce, rst, {signed_a | signed_b, product[35:0]}, pipelined);
  assign SIGNEDP = pipelined[36];
  wire [35:0] p;
  zeropoint_dsp_register #(36, REG_OUTPUT_CLK, REG_OUTPUT_CE, REG_OUTPUT_RST, RESETMODE) out(
    clk, ce, rst, pipelined[35:0], p);

  wire [17:0] c = {
    C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0
  };
  wire [17:0] operand_c;
  zeropoint_dsp_register #(18, REG_INPUTC_CLK, REG_INPUTC_CE, REG_INPUTC_RST, RESETMODE) input_c(
    clk, ce, rst, c, operand_c);

  assign {
    P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15,
    P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
  } = p;
  assign {
    SROA17, SROA16, SROA15, SROA14, SROA13, SROA12, SROA11, SROA10, SROA9, SROA8, SROA7, SROA6, SROA5, SROA4,
    SROA3, SROA2, SROA1, SROA0
  } = operand_a;
  assign {
    SROB17, SROB16, SROB15, SROB14, SROB13, SROB12, SROB11, SROB10, SROB9, SROB8, SROB7, SROB6, SROB5, SROB4,
    SROB3, SROB2, SROB1, SROB0
  } = operand_b;
  assign {
    ROA17, ROA16, ROA15, ROA14, ROA13, ROA12, ROA11, ROA10, ROA9, ROA8, ROA7, ROA6, ROA5, ROA4, ROA3, ROA2,
    ROA1, ROA0
  } = operand_a;
  assign {
    ROB17, ROB16, ROB15, ROB14, ROB13, ROB12, ROB11, ROB10, ROB9, ROB8, ROB7, ROB6, ROB5, ROB4, ROB3, ROB2,
    ROB1, ROB0
  } = operand_b;
  assign {
    ROC17, ROC16, ROC15, ROC14, ROC13, ROC12, ROC11, ROC10, ROC9, ROC8, ROC7, ROC6, ROC5, ROC4, ROC3, ROC2,
    ROC1, ROC0
  } = operand_c;
endmodule

// The block RAM: 18,432 bits, or 16,384 where a word is narrower than 9 bits, behind two ports. An address counts bits;
// its lowest bits enable bytes where a word has several. With 36 bits a word, port A writes and port B reads, the lower
// half of a word through the inputs and outputs of A and the upper one through those of B.
//
// What a port reads of bits that the other one writes in the same cycle is not defined: here it is random. Of bits that
// both write, port B's stay. The clocks of both ports are taken for one.
module DP16KD(
  input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2,
    DIA1, DIA0, ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
  input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
  output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
    DOA1, DOA0,
  input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2,
    DIB1, DIB0, ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
  input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
  output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
    DOB1, DOB0
);
  parameter integer DATA_WIDTH_A = 18;
  parameter integer DATA_WIDTH_B = 18;
  parameter REGMODE_A = "NOREG";
  parameter REGMODE_B = "NOREG";
  parameter RESETMODE = "SYNC";
  parameter ASYNC_RESET_RELEASE = "SYNC";
  parameter CSDECODE_A = "0b000";
  parameter CSDECODE_B = "0b000";
  parameter WRITEMODE_A = "NORMAL";
  parameter WRITEMODE_B = "NORMAL";
  parameter CLKAMUX = "CLKA";
  parameter CLKBMUX = "CLKB";
  parameter GSR = "ENABLED";
  parameter INIT_DATA = "STATIC";
  parameter WID = 0;
  parameter [319:0] INITVAL_00 = 0;
  parameter [319:0] INITVAL_01 = 0;
  parameter [319:0] INITVAL_02 = 0;
  parameter [319:0] INITVAL_03 = 0;
  parameter [319:0] INITVAL_04 = 0;
  parameter [319:0] INITVAL_05 = 0;
  parameter [319:0] INITVAL_06 = 0;
  parameter [319:0] INITVAL_07 = 0;
  parameter [319:0] INITVAL_08 = 0;
  parameter [319:0] INITVAL_09 = 0;
  parameter [319:0] INITVAL_0A = 0;
  parameter [319:0] INITVAL_0B = 0;
  parameter [319:0] INITVAL_0C = 0;
  parameter [319:0] INITVAL_0D = 0;
  parameter [319:0] INITVAL_0E = 0;
  parameter [319:0] INITVAL_0F = 0;
  parameter [319:0] INITVAL_10 = 0;
  parameter [319:0] INITVAL_11 = 0;
  parameter [319:0] INITVAL_12 = 0;
  parameter [319:0] INITVAL_13 = 0;
  parameter [319:0] INITVAL_14 = 0;
  parameter [319:0] INITVAL_15 = 0;
  parameter [319:0] INITVAL_16 = 0;
  parameter [319:0] INITVAL_17 = 0;
  parameter [319:0] INITVAL_18 = 0;
  parameter [319:0] INITVAL_19 = 0;
  parameter [319:0] INITVAL_1A = 0;
  parameter [319:0] INITVAL_1B = 0;
  parameter [319:0] INITVAL_1C = 0;
  parameter [319:0] INITVAL_1D = 0;
  parameter [319:0] INITVAL_1E = 0;
  parameter [319:0] INITVAL_1F = 0;
  parameter [319:0] INITVAL_20 = 0;
  parameter [319:0] INITVAL_21 = 0;
  parameter [319:0] INITVAL_22 = 0;
  parameter [319:0] INITVAL_23 = 0;
  parameter [319:0] INITVAL_24 = 0;
  parameter [319:0] INITVAL_25 = 0;
  parameter [319:0] INITVAL_26 = 0;
  parameter [319:0] INITVAL_27 = 0;
  parameter [319:0] INITVAL_28 = 0;
  parameter [319:0] INITVAL_29 = 0;
  parameter [319:0] INITVAL_2A = 0;
  parameter [319:0] INITVAL_2B = 0;
  parameter [319:0] INITVAL_2C = 0;
  parameter [319:0] INITVAL_2D = 0;
  parameter [319:0] INITVAL_2E = 0;
  parameter [319:0] INITVAL_2F = 0;
  parameter [319:0] INITVAL_30 = 0;
  parameter [319:0] INITVAL_31 = 0;
  parameter [319:0] INITVAL_32 = 0;
  parameter [319:0] INITVAL_33 = 0;
  parameter [319:0] INITVAL_34 = 0;
  parameter [319:0] INITVAL_35 = 0;
  parameter [319:0] INITVAL_36 = 0;
  parameter [319:0] INITVAL_37 = 0;
  parameter [319:0] INITVAL_38 = 0;
  parameter [319:0] INITVAL_39 = 0;
  parameter [319:0] INITVAL_3A = 0;
  parameter [319:0] INITVAL_3B = 0;
  parameter [319:0] INITVAL_3C = 0;
  parameter [319:0] INITVAL_3D = 0;
  parameter [319:0] INITVAL_3E = 0;
  parameter [319:0] INITVAL_3F = 0;

  initial
    if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG" || (RESETMODE != "SYNC" && RESETMODE != "ASYNC")
        || CSDECODE_A != "0b000" || CSDECODE_B != "0b000" || (DATA_WIDTH_B == 36 && DATA_WIDTH_A != 36))
      $fatal(1, "DP16KD: this model has no such mode");

  wire [17:0] da = {
    DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2,
    DIA1, DIA0
  };
  wire [17:0] db = {
    DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2,
    DIB1, DIB0
  };
  wire [13:0] at_a = {
    ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0
  };
  wire [13:0] at_b = {
    ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0
  };

  // Rows of 36 bits, in bytes of 9. Initial values have 18 bits in each 20.
  reg [35:0] rows[0:511];
  localparam [20479:0] INIT = {
    INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38, INITVAL_37,
    INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E,
    INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28, INITVAL_27, INITVAL_26, INITVAL_25,
    INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C,
    INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13,
    INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A,
    INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01,
    INITVAL_00
  };
  integer i;
  initial
    for (i = 0; i < 512; i = i + 1) rows[i] = {INIT[40 * i + 20 +: 18], INIT[40 * i +: 18]};

  // Where a word begins within its row: the ninth bit of a byte is part of words of 9 bits and more only.
  function [5:0] place(input integer width, input [13:0] at);
    place = (width < 36 ? 18 * at[4] : 0) + (width < 18 ? 9 * at[3] : 0) + (width < 9 ? 4 * at[2] : 0)
      + (width < 4 ? 2 * at[1] : 0) + (width < 2 ? at[0] : 0);
  endfunction

  // The bits of a row that a write changes.
  function [35:0] mask(input integer width, input [13:0] at);
    mask = (width == 36 ? {{9{at[3]}}, {9{at[2]}}, {9{at[1]}}, {9{at[0]}}}
      : width == 18 ? {18'd0, {9{at[1]}}, {9{at[0]}}}
      : width == 9 ? 36'h1ff : width == 4 ? 36'hf : width == 2 ? 36'h3 : 36'h1) << place(width, at);
  endfunction

  function [35:0] word(input integer width, input [35:0] row, input [13:0] at);
    word = (row >> place(width, at)) & (width == 36 ? 36'hfffffffff : width == 18 ? 36'h3ffff
      : width == 9 ? 36'h1ff : width == 4 ? 36'hf : width == 2 ? 36'h3 : 36'h1);
  endfunction

  wire clk_a = CLKAMUX == "INV" ? ~CLKA : CLKA;
  wire clk_b = CLKBMUX == "INV" ? ~CLKB : CLKB;
  wire on_a = CEA & ~(CSA2 | CSA1 | CSA0);
  wire on_b = CEB & ~(CSB2 | CSB1 | CSB0);
  wire [35:0] writes_a = on_a && WEA && !RSTA ? mask(DATA_WIDTH_A, at_a) : 36'd0;
  wire [35:0] writes_b = on_b && WEB && !RSTB ? mask(DATA_WIDTH_B, at_b) : 36'd0;
  wire [35:0] data_a = DATA_WIDTH_A == 36 ? {db, da} : {18'd0, da} << place(DATA_WIDTH_A, at_a);
  wire [35:0] data_b = {18'd0, db} << place(DATA_WIDTH_B, at_b);
  wire same_row = at_a[13:5] == at_b[13:5];
  wire [35:0] row_a = rows[at_a[13:5]];
  wire [35:0] row_b = rows[at_b[13:5]];
  wire [35:0] new_a = row_a & ~writes_a | data_a & writes_a;
  wire [35:0] new_b = row_b & ~writes_b | data_b & writes_b;

  // What the other port writes.
  wire [35:0] spoilt_a = same_row ? writes_b : 36'd0;
  wire [35:0] spoilt_b = same_row ? writes_a : 36'd0;
  reg [35:0] noise = 0;
  reg [35:0] out_a = 0;
  reg [35:0] out_b = 0;

  wire reads_a = on_a && !(WEA && WRITEMODE_A == "NORMAL");
  wire reads_b = on_b && !(WEB && WRITEMODE_B == "NORMAL");
  wire [35:0] seen_a = (WRITEMODE_A == "WRITETHROUGH" ? new_a : row_a) & ~spoilt_a | noise & spoilt_a;
  wire [35:0] seen_b = (WRITEMODE_B == "WRITETHROUGH" ? new_b : row_b) & ~spoilt_b | noise & spoilt_b;

  always @(posedge clk_a) noise <= {$random, $random};

  generate
    if (RESETMODE == "ASYNC") begin : asynchronous
      always @(posedge clk_a, posedge RSTA)
        if (RSTA) out_a <= 0;
        else if (reads_a) out_a <= word(DATA_WIDTH_A, seen_a, at_a);
      always @(posedge clk_b, posedge RSTB)
        if (RSTB) out_b <= 0;
        else if (reads_b) out_b <= word(DATA_WIDTH_B, seen_b, at_b);
    end else begin : synchronous
      always @(posedge clk_a)
        if (RSTA) out_a <= 0;
        else if (reads_a) out_a <= word(DATA_WIDTH_A, seen_a, at_a);
      always @(posedge clk_b)
        if (RSTB) out_b <= 0;
        else if (reads_b) out_b <= word(DATA_WIDTH_B, seen_b, at_b);
    end
  endgenerate

  // If both write to a row, each leaves in it what the two make of it.
  always @(posedge clk_a)
    if (writes_a != 0) rows[at_a[13:5]] <= new_a & ~spoilt_a | data_b & spoilt_a;
  always @(posedge clk_b)
    if (writes_b != 0) rows[at_b[13:5]] <= new_b & ~spoilt_b | data_a & spoilt_b & ~writes_b | data_b & writes_b;

  assign {
    DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
    DOA1, DOA0
  } = DATA_WIDTH_B == 36 ? out_b[17:0] : out_a[17:0];
  assign {
    DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
    DOB1, DOB0
  } = DATA_WIDTH_B == 36 ? out_b[35:18] : out_b[17:0];
endmodule
